"""Small real models: trained for moments, exported by the product's own code."""

from pathlib import Path

import numpy as np

from vaeserve_export.bundling.of_run import export_run
from vaeserve_export.data.dataset import Dataset, load
from vaeserve_export.training.settings import TrainSettings
from vaeserve_export.training.train import train

ROW_SHAPES = {"digits": (1, 8, 8), "rgb": (3, 9, 11), "vectors": (6,)}


def make_repository(folder: Path) -> Path:
    """Train and export one model of each kind.

    Args:
        folder: gets `runs/NAME` and `repository/NAME/1`.

    Returns:
        the repository.
    """
    rng = np.random.default_rng(0)
    pictures = rng.random((64, *ROW_SHAPES["rgb"]), np.float32)
    vectors = rng.normal(size=(64, *ROW_SHAPES["vectors"])).astype(np.float32)
    data = {
        "digits": load("digits"),
        "rgb": Dataset(pictures, None, level=1 / 255, name="noise pictures"),
        "vectors": Dataset(vectors, None, level=None, name="noise vectors"),
    }
    settings = {
        "digits": TrainSettings(epochs=3, hidden=64),
        "rgb": TrainSettings(model="conv", epochs=1, hidden=16, latent_dim=5),
        "vectors": TrainSettings(likelihood="gaussian", epochs=1, hidden=16, latent_dim=3),
    }
    for name, rows in data.items():
        run = folder / "runs" / name
        train(settings[name], rows, run)
        export_run(run, folder / "repository", name)
    return folder / "repository"


def add_precisions(run: Path, repository: Path) -> None:
    """Export a run on digits in float16 and int8, measured on its validation rows."""
    for precision in ("fp16", "int8"):
        export_run(
            run, repository, f"digits-{precision}", precision=precision, dataset=load("digits")
        )
