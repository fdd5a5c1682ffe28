"""uint8 levels that stand for no value of the likelihood, on engines of either kind."""

from pathlib import Path

import numpy as np
import pytest

from support.servers import running_app
from vaeserve import Client, InvalidInput
from vaeserve_export.bundling.of_run import export_run
from vaeserve_export.data.dataset import Dataset
from vaeserve_export.training.settings import TrainSettings
from vaeserve_export.training.train import train


@pytest.fixture(scope="module")
def black_and_white(torchlib: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of a Bernoulli model whose levels are 0 and 1."""
    folder = tmp_path_factory.mktemp("black-and-white")
    x = np.random.default_rng(0).integers(0, 2, (64, 1, 4, 4)).astype(np.float32)
    settings = TrainSettings(epochs=1, hidden=8, latent_dim=2, threads=1)
    train(settings, Dataset(x, None, level=1.0, name="black and white"), folder / "run")
    export_run(folder / "run", folder / "repository", "drawn")
    return folder / "repository"


@pytest.mark.parametrize("execution", ["plain", "bound"])
def test_levels_out_of_range_are_refused(black_and_white: Path, execution: str) -> None:
    good = np.eye(4, dtype=np.uint8)[None, None]
    with (
        running_app(black_and_white, execution=execution) as app,
        Client(f"127.0.0.1:{app.port}") as client,
    ):
        model = client.model("drawn")
        for call in (model.encode, model.reconstruct, model.score):
            call(good)
            with pytest.raises(InvalidInput, match="uint8 levels 0 to 1, here are 0 to 255"):
                call(255 * good)
