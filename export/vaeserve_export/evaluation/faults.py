"""Faults, named from what a trained model does.

Most broken losses train without a complaint, and their reconstructions look better than those of a
sound VAE. What tells is the weight of the KL that the model itself shows (loss_scale.py), whether
any latent dimension is used, log_var at the ends of its range, and the bound on rows not trained
on. Recorded settings explain a fault; beyond a beta between 0.1 and 10 they do not excuse one.
"""

import math

from vaeserve_export.evaluation.evidence import Evidence
from vaeserve_export.evaluation.fault import Fault
from vaeserve_export.evaluation.weight_faults import CLAMPED, collapse_fault, weight_fault

_OVERFIT = 0.05  # share of what was gained in training that is not there on other rows
_ERRORS = 3.0  # standard errors that a difference must exceed
_WORSE = 0.02  # of a constant answer's nats: by so much may a trained decoder be worse than it


def find_faults(evidence: Evidence) -> list[Fault]:
    """The faults of a model, the one that explains most first; none for a sound one."""
    if untrained := _untrained(evidence):
        return [untrained]  # the rest is about an optimum
    found = [_weighed(evidence)]
    if found[0] is None or found[0].name != "plain_autoencoder":  # whose sigma has gone that way
        found.append(_clamped(evidence))
    found.append(_overfitting(evidence))
    return [fault for fault in found if fault]


def _weighed(e: Evidence) -> Fault | None:
    """What is wrong with the weight of the KL.

    Latents may be active with nothing to weigh: free bits can hold every one at their floor.
    """
    if e.kl_weight:
        return weight_fault(e, e.kl_weight)
    return None if e.validation.statistics.active_units else collapse_fault(e)


def _untrained(e: Evidence) -> Fault | None:
    """A decoder can always ignore z: one that was trained does no worse than a constant."""
    v = e.validation
    worse = v.statistics.reconstruction_nats - v.constant_nats
    diverged = not math.isfinite(v.statistics.reconstruction_nats)
    beyond = worse > _WORSE * abs(v.constant_nats) and worse > _ERRORS * v.gain_error
    if not (diverged or beyond):
        return None
    epochs = f" after {len(e.history)} epochs" if e.history else ""
    return Fault(
        name="untrained",
        title="Training has hardly begun, or diverged",
        evidence=(
            f"Reconstruction {v.statistics.reconstruction_nats:.1f} nats{epochs}; answering every "
            f"row with the data's mean gives {v.constant_nats:.1f}.",
        ),
        cause="Too few steps, a learning rate far too small or too large, or rows that are not "
        "those it was trained on.",
        remedy="Train on until -ELBO levels out; look at the curves; check --data.",
    )


def _clamped(e: Evidence) -> Fault | None:
    v = e.validation.statistics
    if v.clamped_low_share + v.clamped_high_share <= CLAMPED:
        return None
    return Fault(
        name="log_var_clamped",
        title="log_var lies at an end of its range, or beyond",
        evidence=(
            f"On {v.rows} rows not trained on {v.clamped_low_share:.1%} of log_var lie at -12 or "
            f"below and {v.clamped_high_share:.1%} at 6 or above. Encoders of `vaeserve train` are "
            "held there, where the gradient is 0.",
        ),
        cause="The encoder wants a sigma outside exp(-6) to exp(3): a Gaussian variance far too "
        "small for the data, data that are not scaled, or a learning rate that threw it there.",
        remedy="Scale the data, raise the Gaussian variance or learn it, lower the learning rate.",
    )


def _overfitting(e: Evidence) -> Fault | None:
    """Compare what training gained over a constant answer, on rows seen and not seen."""
    seen, unseen = e.train.gain_nats, e.validation.gain_nats
    gap, error = seen - unseen, math.hypot(e.train.gain_error, e.validation.gain_error)
    if not (seen > 0 and gap >= _OVERFIT * seen and gap >= _ERRORS * error):
        return None  # so too if a figure is NaN
    evidence = [
        f"-ELBO {e.train.statistics.negative_elbo_nats:.1f} nats on rows trained on and "
        f"{e.validation.statistics.negative_elbo_nats:.1f} on others: over a constant answer "
        f"training gained {seen:.1f} nats there and {unseen:.1f} here, {gap / seen:.0%} less.",
    ]
    if e.history:
        best, last = min(e.history, key=lambda epoch: epoch.validation_loss), e.history[-1]
        rise = last.validation_loss - best.validation_loss
        if rise > 0:
            evidence.append(
                f"The validation loss was best in epoch {best.epoch} and rose by {rise:.1f} nats "
                f"until epoch {last.epoch}, while training went on."
            )
    return Fault(
        name="overfitting",
        title="Overfitting: rows not trained on are explained much worse",
        evidence=tuple(evidence),
        cause="Too much net or too many epochs for so few rows; a fixed binarisation, which can be "
        "learned by heart.",
        remedy="More rows, a smaller net, --patience so that training ends in time, or --binarise, "
        "which draws the pixels anew in each epoch.",
    )
