"""Processor time of the trainer beside that of a bare loop, taking turns: `make bench-train`.

The trainer does what the bare loop does not: it measures itself on the held-out tenth after every
epoch, keeps the best weights, writes metrics and checkpoints, and can be resumed. Its settings are
the bare loop's: 784-200-200-50 with tanh, Adam, binarised rows, one thread. What comes once (the
digest of the data, the calibration) is not counted: it does not grow with the training.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import click
import numpy as np
import torch

from bench_train.bare import bare_loop
from vaeserve_export.data.dataset import Dataset
from vaeserve_export.training.settings import TrainSettings
from vaeserve_export.training.train import train

BAR = 1.10
ROWS, EPOCHS, TURNS = 20_000, 3, 5
BATCH = 100


def main() -> int:
    """Print the ratios; 1 if the trainer costs more than the bar."""
    torch.set_num_threads(1)
    pixels = np.random.default_rng(0).beta(0.3, 1.0, (ROWS, 784)).astype(np.float32)
    data = Dataset(pixels, None, None, "noise")
    settings = TrainSettings(
        layers=2,
        hidden=200,
        latent_dim=50,
        activation="tanh",
        batch_size=BATCH,
        binarise=True,
        epochs=EPOCHS,
        threads=1,
    )
    steps = EPOCHS * (ROWS - ROWS // 10) // BATCH
    x = torch.from_numpy(pixels)

    def trainer() -> float:
        with tempfile.TemporaryDirectory() as folder:
            return train(settings, data, Path(folder) / "run").cpu_seconds

    def bare(*, quick_pixels: bool) -> float:
        started = time.process_time()
        bare_loop(x, BATCH, steps, quick_pixels=quick_pixels)
        return time.process_time() - started

    loops: dict[str, Callable[[], float]] = {
        "trainer": trainer,
        "bare loop": lambda: bare(quick_pixels=True),
        "bare loop, torch.bernoulli": lambda: bare(quick_pixels=False),
    }
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(TURNS):
        for name, loop in loops.items():
            seconds[name].append(loop())
    ratios = {
        name: median(a / b for a, b in zip(seconds["trainer"], found, strict=True))
        for name, found in seconds.items()
    }
    for name, ratio in ratios.items():
        milliseconds = 1000 * median(seconds[name]) / steps
        click.echo(f"{name:28} {milliseconds:6.2f} ms a step   trainer / this {ratio:5.3f}")
    overhead = ratios["bare loop"]
    verdict = "met" if overhead <= BAR else "MISSED"
    click.echo(f"overhead {100 * (overhead - 1):.1f} %; bar {100 * (BAR - 1):.0f} %: {verdict}")
    return int(overhead > BAR)


if __name__ == "__main__":
    sys.exit(main())
