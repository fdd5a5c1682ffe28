"""The figures of each epoch for TensorBoard, beside metrics.jsonl."""

from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from vaeserve_export.errors import TrainError
from vaeserve_export.training.records import EpochRecord

if TYPE_CHECKING:
    pass

FOLDER = "tensorboard"

_PARTS = ("train", "validation")


class TensorBoard:
    """A Listener that writes to the run's folder `tensorboard`; to be used in a with statement.

    Raises:
        TrainError: TensorBoard is not installed.
    """

    def __init__(self, run: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise TrainError(
                "--tensorboard needs the extra of that name: pip install 'vaeserve[tensorboard]'"
            ) from error
        self._make = SummaryWriter
        self._folder = run / FOLDER
        self._writer: SummaryWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer:
            self._writer.close()

    def batch(self, epoch: int, rows_done: int) -> None:
        """Batches are not written."""

    def epoch(self, record: EpochRecord) -> None:
        """Write each figure under the number of the epoch."""
        if self._writer is None:
            # Epochs that a resumed run trains again take the place of what was written of them.
            self._writer = self._make(str(self._folder), purge_step=record.epoch)
        for name, value in asdict(record).items():
            part, _, figure = name.partition("_")
            tag = f"{part}/{figure}" if part in _PARTS else f"run/{name}"
            self._writer.add_scalar(tag, value, record.epoch)
