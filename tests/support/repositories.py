"""Small real models: trained for moments, exported by the product's own code."""

from pathlib import Path

import numpy as np

from vaeserve.v1 import bundle, model_pb2
from vaeserve_export import npz
from vaeserve_export.bundling.of_run import export_run
from vaeserve_export.data.dataset import Dataset, load
from vaeserve_export.training.settings import TrainSettings
from vaeserve_export.training.train import train

ROW_SHAPES = {"digits": (1, 8, 8), "rgb": (3, 9, 11), "vectors": (6,)}


ATTRIBUTES = ("glasses", "hat", "smile")


def make_repository(folder: Path) -> Path:
    """Train and export one model of each kind; `digits` gets a fitted prior and ATTRIBUTES.

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
    add_toolkit(folder / "repository" / "digits" / "1")
    return folder / "repository"


def add_toolkit(folder: Path) -> None:
    """Put a prior of three components and a direction for each of ATTRIBUTES into a bundle.

    They were never fitted: any will do to be served.
    """
    info = bundle.read_manifest(folder)
    rng = np.random.default_rng(7)
    k, d = 3, info.latent_shape[0]
    factors = np.tril(rng.normal(scale=0.1, size=(k, d, d)), -1)
    factors += np.eye(d) * rng.uniform(0.3, 0.8, (k, 1, d))
    arrays = {
        bundle.PRIOR: {
            "weights": np.array([0.2, 0.5, 0.3]),
            "means": rng.normal(size=(k, d)),
            "cholesky": factors,
        },
        bundle.ATTRIBUTES: {"directions": rng.normal(size=(len(ATTRIBUTES), d)).astype(np.float32)},
    }
    info.prior.CopyFrom(
        model_pb2.FittedPrior(components=k, rows=1000, held_out_nats=25.0, standard_nats=30.0)
    )
    info.attributes.extend(
        model_pb2.Attribute(name=name, method="balanced", auc=0.9, positives=300, negatives=700)
        for name in ATTRIBUTES
    )
    for name, named in arrays.items():
        content = npz.to_bytes(dict(named))
        (folder / name).write_bytes(content)
        info.files.append(bundle.digest(name, content))
    bundle.write_manifest(folder, info)


def add_precisions(run: Path, repository: Path) -> None:
    """Export a run on digits in float16 and int8, measured on its validation rows."""
    for precision in ("fp16", "int8"):
        export_run(
            run, repository, f"digits-{precision}", precision=precision, dataset=load("digits")
        )
