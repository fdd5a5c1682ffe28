"""Short runs, how they are killed, and what they leave."""

import json
from pathlib import Path
from typing import Any

import torch

from vaeserve_export.data.dataset import Dataset
from vaeserve_export.training import (
    run as run_folder,
)
from vaeserve_export.training.records import EpochRecord
from vaeserve_export.training.run import load_model
from vaeserve_export.training.settings import TrainSettings

SMALL = TrainSettings(epochs=6, hidden=32, latent_dim=4, batch_size=64)


class Killed(Exception):
    """Stands for the process being killed."""


class Killer:
    """A listener that ends training after some steps, in the middle of an epoch."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def batch(self, epoch: int, rows_done: int) -> None:
        self.steps -= 1
        if self.steps == 0:
            raise Killed

    def epoch(self, record: EpochRecord) -> None:
        pass


def metrics(run: Path) -> list[dict[str, Any]]:
    lines = (run / run_folder.METRICS).read_text().splitlines()
    return [json.loads(line) for line in lines]


def files(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.iterdir()}


def sigma(run: Path, data: Dataset) -> float:
    """Median posterior standard deviation."""
    _, log_var = load_model(run).encoder(torch.from_numpy(data.x))
    return float((0.5 * log_var).exp().median().detach())
