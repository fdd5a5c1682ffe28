"""Whether a training had more to learn when its epochs were over.

That is no fault of the model: nothing in it is wrong, and it would be better for a longer training.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from vaeserve_export.training.records import EpochRecord

_NEAR_THE_END = 0.1  # of the epochs: later than this share before the end lies the best
_LAST_HALF = (
    0.04  # of the whole fall: as much, or a little less, is what doubling the epochs brings
)
_LAST_FIFTH = 0.005  # of the whole fall: less is the scatter of a plateau reached before


@dataclass(frozen=True, kw_only=True)
class Remark:
    """What is worth knowing about a model that has no fault.

    Attributes:
        name: an identifier that does not change.
        title: one line.
        evidence: sentences with the figures that show it; at least one.
        remedy: what to do.
    """

    name: str
    title: str
    evidence: tuple[str, ...]
    remedy: str


def still_improving(history: Sequence[EpochRecord], patience: int) -> Remark | None:
    """Remark on a training whose validation loss was still falling at its end.

    With the whole fall being that from the first epoch's validation loss to the best, it was if the
    best epoch is among the last tenth, the last half of the epochs brought more than 4 % of the
    whole fall, and the last fifth more than 0.5 %. It was not if patience has run out.

    Args:
        history: of the training, an epoch each; of none and of one epoch nothing can be said.
        patience: epochs without a better loss after which the training would have stopped.
    """
    if len(history) < 2:
        return None
    epochs, losses = len(history), [epoch.validation_loss for epoch in history]
    best = min(losses)
    stalled = epochs - 1 - losses.index(best)
    whole = losses[0] - best

    def fall(last: int) -> float:
        return min(losses[:-last]) - best

    half, fifth = epochs // 2, max(1, epochs // 5)
    if (
        stalled >= patience
        or stalled > _NEAR_THE_END * epochs
        or fall(half) <= _LAST_HALF * whole
        or fall(fifth) <= _LAST_FIFTH * whole
    ):
        return None
    return Remark(
        name="still_improving",
        title="No fault found, but it has not finished learning: its loss was still falling",
        evidence=(
            f"The best of {epochs} epochs is {epochs - stalled}. The validation loss fell by "
            f"{whole:.2f} nats since the first epoch, by {fall(half):.2f} of them in the last "
            f"{half} and by {fall(fifth):.2f} in the last {fifth}.",
        ),
        remedy=f"Train longer: go on with --resume --epochs {2 * epochs} or more. --patience ends "
        "the training when it gets no better.",
    )
