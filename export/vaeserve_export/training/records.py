"""What a training tells while it goes on: a record an epoch, and who listens."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vaeserve_export.errors import RunError


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """One line of metrics.jsonl: means in nats per row; the -ELBO is always that of beta = 1.

    Attributes:
        epoch: epochs completed.
        step: optimiser steps taken.
        train_reconstruction_nats: over the epoch's rows, each as it was when trained on.
        train_kl_nats: the same; free bits are not taken from it.
        train_negative_elbo_nats: the sum of both.
        train_loss: what was optimised.
        beta_now: weight of the KL in the epoch's last step.
        learning_rate: in that step; with muon, Adam's is a tenth of it.
        validation_reconstruction_nats: after the epoch.
        validation_kl_nats: after the epoch.
        validation_negative_elbo_nats: the sum of both.
        validation_loss: reconstruction + beta * KL, by which the best weights are chosen.
        active_units: latent dimensions with Var_x(mu) > 0.01 on the validation rows.
        gaussian_variance: of the likelihood, as learned so far or fixed; 0 if not Gaussian.
        seconds: since the training began, without the pauses of a resumed one.
        cpu_seconds: processor time since then, of all threads and processes.
    """

    epoch: int
    step: int
    train_reconstruction_nats: float
    train_kl_nats: float
    train_negative_elbo_nats: float
    train_loss: float
    beta_now: float
    learning_rate: float
    validation_reconstruction_nats: float
    validation_kl_nats: float
    validation_negative_elbo_nats: float
    validation_loss: float
    active_units: int
    gaussian_variance: float
    seconds: float
    cpu_seconds: float


class Listener(Protocol):
    """Is told how training goes; an exception from it stops the training."""

    def batch(self, epoch: int, rows_done: int) -> None:
        """A step is done, and with it so many rows of this epoch."""

    def epoch(self, record: EpochRecord) -> None:
        """An epoch is done."""


def read_records(path: Path) -> list[EpochRecord]:
    """Read a metrics.jsonl.

    Raises:
        RunError: missing, damaged, or of another version.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [EpochRecord(**json.loads(line)) for line in lines]
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{path}: cannot be read: {error}") from error
