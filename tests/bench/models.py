"""The two models under test: trained for moments, exported by the product's own code, once."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaeserve.v1 import bundle
from vaeserve_export.bundling.of_run import export_run
from vaeserve_export.data.dataset import Dataset
from vaeserve_export.training.settings import TrainSettings
from vaeserve_export.training.train import train


@dataclass(frozen=True)
class Model:
    """A model to be served.

    Attributes:
        name: of the model and of its folder.
        row_shape: shape of one input row.
        latent: latent dimensions.
        settings: what it is trained with.
    """

    name: str
    row_shape: tuple[int, ...]
    latent: int
    settings: TrainSettings


MODELS = {
    "mlp": Model("mlp", (1, 28, 28), 20, TrainSettings(hidden=256, latent_dim=20, epochs=1)),
    "conv": Model("conv", (3, 64, 64), 128, TrainSettings(model="conv", latent_dim=128, epochs=1)),
}


def repository_of(model: Model, cache: Path) -> Path:
    """Train and export a model unless an earlier run has.

    Each has a repository of its own, so that a server can hold one of them alone.

    Args:
        model: which.
        cache: gets `models/NAME/`.
    """
    home = cache / "models" / model.name
    repository = home / "repository"
    if not (repository / model.name / "1").is_dir():
        pictures = np.random.default_rng(0).random((256, *model.row_shape), np.float32)
        data = Dataset(pictures, None, level=1 / 255, name="noise pictures")
        train(model.settings, data, home / "run")
        export_run(home / "run", repository, model.name)
    return repository


def graph_file(repository: Path, model: Model, graph: str) -> Path:
    """The ONNX file of `encoder` or `decoder`."""
    files = {"encoder": bundle.ENCODER, "decoder": bundle.DECODER}
    return repository / model.name / "1" / files[graph]
