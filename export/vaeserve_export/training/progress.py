"""How training shows its progress: a bar on a terminal, about ten lines elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from vaeserve_export.training.records import EpochRecord, Listener

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

_LINES = 10
_REDRAWS = 1000


@contextmanager
def show(epochs: int, train_rows: int, *, to_stderr: bool) -> Iterator[Listener]:
    """Show the progress of a training.

    Args:
        epochs: how many there will be, at most.
        train_rows: rows an epoch.
        to_stderr: leave stdout alone, because it carries the result as JSON.

    Yields:
        The listener for `train`.
    """
    stream = sys.stderr if to_stderr else sys.stdout
    if not stream.isatty():
        yield _Lines(epochs, to_stderr=to_stderr)
        return
    total = epochs * train_rows
    with click.progressbar(
        length=total,
        file=stream,
        item_show_func=lambda figures: figures,
        update_min_steps=max(1, total // _REDRAWS),
    ) as bar:
        yield _Bar(bar, epochs, train_rows)


class _Bar:
    """Moves with every batch; the figures change with every epoch."""

    def __init__(self, bar: "ProgressBar[str | None]", epochs: int, train_rows: int) -> None:
        self._bar = bar
        self._epochs = epochs
        self._train_rows = train_rows
        self._at = 0
        self._figures = ""

    def batch(self, epoch: int, rows_done: int) -> None:
        self._bar.label = f"epoch {epoch}/{self._epochs}"
        at = (epoch - 1) * self._train_rows + rows_done  # a resumed run starts in the middle
        self._bar.update(at - self._at, self._figures)
        self._at = at

    def epoch(self, record: EpochRecord) -> None:
        self._figures = _figures(record)


class _Lines:
    """A line for every tenth of the epochs, and for the first."""

    def __init__(self, epochs: int, *, to_stderr: bool) -> None:
        self._epochs = epochs
        self._every = max(1, epochs // _LINES)
        self._to_stderr = to_stderr

    def batch(self, epoch: int, rows_done: int) -> None:
        """Batches are not shown."""

    def epoch(self, record: EpochRecord) -> None:
        if record.epoch == 1 or record.epoch % self._every == 0:
            line = f"epoch {record.epoch}/{self._epochs}  {_figures(record)}"
            click.echo(f"{line}  {record.seconds:.1f} s", err=self._to_stderr)


def _figures(record: EpochRecord) -> str:
    return (
        f"-ELBO {record.validation_negative_elbo_nats:.2f} = "
        f"reconstruction {record.validation_reconstruction_nats:.2f} "
        f"+ KL {record.validation_kl_nats:.2f}"
    )
