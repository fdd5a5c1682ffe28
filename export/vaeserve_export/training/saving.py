"""When a checkpoint is written: in the middle of an epoch, after it, and when asked to stop."""

import time
from collections.abc import Callable
from pathlib import Path

import torch

from vaeserve_export.errors import TrainError
from vaeserve_export.training import run as run_folder
from vaeserve_export.training.checkpoint import TrainState
from vaeserve_export.training.group import Group
from vaeserve_export.training.settings import TrainSettings

CHECKPOINT_SECONDS = 5.0  # an epoch of a small net takes milliseconds, writing the file takes more
AGREE_STEPS = 16  # processes stop and save together, and asking each other costs as much as a step


class Stopped(Exception):
    """The training was asked to stop; its checkpoint is written."""


class Saving:
    """The checkpoint of a training, and the time that has gone into it."""

    def __init__(self, state: TrainState, run: Path, group: Group) -> None:
        self._state = state
        self._run = run
        self._group = group
        self._seconds = state.progress.seconds - time.monotonic()
        self._cpu_before = state.progress.cpu_seconds
        self._cpu_started = time.process_time()
        self._saved_at = time.monotonic()

    def after_step(self, settings: TrainSettings, stop: Callable[[], bool]) -> None:
        """Write a checkpoint in the middle of an epoch, if it is time for one or for the end."""
        progress, group = self._state.progress, self._group
        stopping, due = stop(), time.monotonic() - self._saved_at >= CHECKPOINT_SECONDS
        if group.size > 1:
            if progress.step % AGREE_STEPS:
                return
            wishes = torch.tensor([stopping, due and group.first], device=self._state.sums.device)
            stopping, due = group.sum(wishes.int()).bool().tolist()
        if not stopping and not due:
            return
        self.collect()
        weights = self._state.vae.parameters()
        if not all(bool(value.isfinite().all()) for value in (self._state.sums, *weights)):
            raise TrainError(not_finite(settings, progress.epoch + 1))
        self.write()
        if not group.first:
            self._state.sums.zero_()
        if stopping:
            raise Stopped

    def after_epoch(self) -> None:
        """Write a checkpoint if it is time for one, and after the first epoch."""
        due = time.monotonic() - self._saved_at >= CHECKPOINT_SECONDS
        if due or self._state.progress.epoch == 1:
            self.write()

    def collect(self) -> None:
        """Bring sums and times up to date, over all processes."""
        state = self._state
        state.sums = self._group.sum(state.sums)
        cpu = torch.tensor(time.process_time() - self._cpu_started, device=state.sums.device)
        state.progress.cpu_seconds = self._cpu_before + float(self._group.sum(cpu))
        state.progress.seconds = self._seconds + time.monotonic()

    def write(self) -> None:
        """Write the checkpoint; only the first process does."""
        if self._group.first:
            self._state.save(self._run / run_folder.CHECKPOINT)
        self._saved_at = time.monotonic()


def not_finite(settings: TrainSettings, epoch: int) -> str:
    """What to say of a loss or weights that are not."""
    cause = f"the learning rate {settings.learning_rate:g} is most likely too high"
    if settings.likelihood == "gaussian":
        cause += f", or the Gaussian variance {settings.gaussian_variance:g} too small"
    return f"the loss is not finite in epoch {epoch}: {cause}"
