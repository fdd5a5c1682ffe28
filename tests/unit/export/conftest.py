"""Small data, a short training, and a bundle of one's own to break."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from vaeserve import _cli
from vaeserve.v1 import bundle
from vaeserve_export.data.dataset import Dataset, load
from vaeserve_export.training.settings import TrainSettings
from vaeserve_export.training.train import train


@pytest.fixture(scope="session", autouse=True)
def _torchlib(torchlib: None) -> None:
    """Most tests here export."""


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture(scope="session")
def few_digits(digits: Dataset) -> Dataset:
    """Few enough for an epoch to take a moment."""
    return Dataset(digits.x[:200], None, level=1 / 255, name="few digits")


@pytest.fixture(scope="session")
def marked(digits: Dataset) -> Dataset:
    """Digits with two planted bars, independent of each other.

    Labels: 1 the upper bar, 2 the lower, 3 both, 0 neither.
    """
    labels = np.random.default_rng(0).integers(4, size=len(digits.x))
    x = digits.x.copy()
    x[labels % 2 == 1, :, :2, :4] = 1
    x[labels // 2 == 1, :, 6:, 4:] = 1
    return Dataset(x, labels, digits.level, "marked digits")


@pytest.fixture(scope="session")
def marked_run(marked: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of them whose latents are in use. Not to be changed."""
    run = tmp_path_factory.mktemp("marked") / "run"
    settings = TrainSettings(
        epochs=10, batch_size=32, learning_rate=2e-3, hidden=64, latent_dim=6, threads=1
    )
    train(settings, marked, run)
    return run


@pytest.fixture
def vectors() -> Dataset:
    x = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    return Dataset(x, None, level=None, name="vectors")


@pytest.fixture
def folder(repository: Path, tmp_path: Path) -> Path:
    """A copy of a sound bundle."""
    return Path(shutil.copytree(repository / "digits" / "1", tmp_path / "digits" / "1"))


@pytest.fixture
def replace_file(folder: Path) -> Callable[[str, bytes], None]:
    """Put another content into that bundle and list it rightly, as a tool with a fault would."""

    def replace(name: str, content: bytes) -> None:
        (folder / name).write_bytes(content)
        info = bundle.read_manifest(folder)
        kept = [entry for entry in info.files if entry.name != name]
        del info.files[:]
        info.files.extend([*kept, bundle.digest(name, content)])
        graphs = [(folder / file).read_bytes() for file in (bundle.ENCODER, bundle.DECODER)]
        info.latent_space_id = bundle.latent_space_id(*graphs)
        bundle.write_manifest(folder, info)

    return replace


@pytest.fixture
def run_command() -> Callable[..., Result]:
    """Run `vaeserve NAME ARGUMENTS`; what an error shows must be one line and no traceback."""

    def run(name: str, *arguments: object) -> Result:
        result = CliRunner().invoke(_cli.main, [name, *map(str, arguments)])
        if result.exit_code:
            assert isinstance(result.exception, SystemExit), result.exception
            assert "Traceback" not in result.output
        return result

    return run


@pytest.fixture
def refused(run_command: Callable[..., Result]) -> Callable[..., str]:
    """Run a command that must fail with status 1, and give its one line."""

    def run(name: str, *arguments: object) -> str:
        result = run_command(name, *arguments)
        assert result.exit_code == 1, result.output
        lines = result.stderr.splitlines()
        assert len(lines) == 1, result.stderr
        return lines[0]

    return run
