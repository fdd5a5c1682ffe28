"""Bundles of modules that take other values than the sources of data give."""

import base64
import io
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch
from click.testing import Result
from PIL import Image
from torch import Tensor, nn

from vaeserve.v1 import archives, bundle
from vaeserve_export import export_modules
from vaeserve_export.data.dataset import Dataset
from vaeserve_export.evaluation.evaluate import evaluate
from vaeserve_export.trained.open import open_subject

Run = Callable[..., Result]

VARIANCE = 0.05
SHAPE = (1, 8, 8)
# (scale, offset) of models of [-1, 1], of levels 0..255, and of [0, 1].
OWN = {"signed": (2 / 255, -1.0), "levels": (1.0, 0.0)}
UNIT = (1 / 255, 0.0)


class Encoder(nn.Module):
    """The mean of four quarters, from values that are brought into [0, 1] first."""

    def __init__(self, scale: float, offset: float) -> None:
        super().__init__()
        self.scale, self.offset = scale * 255, offset
        self.log_var = nn.Parameter(torch.full((4,), -5.0))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        unit = (x - self.offset) / self.scale
        mu = 4 * nn.functional.avg_pool2d(unit, 4).flatten(1) - 1.5
        return mu, self.log_var + 0 * mu


class Decoder(nn.Module):
    def __init__(self, scale: float, offset: float) -> None:
        super().__init__()
        self.scale, self.offset = scale * 255, offset
        self.gain = nn.Parameter(torch.tensor(0.25))
        self.quarters = nn.Unflatten(1, (1, 2, 2))

    def forward(self, z: Tensor) -> Tensor:
        unit = self.gain * (z + 1.5)
        quarters = self.quarters(unit).repeat_interleave(4, 2).repeat_interleave(4, 3)
        x_hat: Tensor = quarters * self.scale + self.offset
        return x_hat


class Models(NamedTuple):
    """The same model thrice: of values in [0, 1], of [-1, 1] and of 0..255; and its data.

    Without labels no classifier of the data is trained.
    """

    folders: dict[str, Path]
    spec: str
    unlabelled: str


@pytest.fixture(scope="module")
def models(marked: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("values")
    assert marked.labels is not None
    levels = (marked.x[:, 0] * 255).round().astype(np.uint8)
    np.savez(folder / "marked.npz", x=levels, labels=marked.labels)
    folders = {
        name: export_modules(
            Encoder(*preprocessing),
            Decoder(*preprocessing),
            name=name,
            repository=folder / "models",
            input_shape=SHAPE,
            likelihood="gaussian",
            gaussian_variance=VARIANCE * (preprocessing[0] * 255) ** 2,
            preprocessing=preprocessing,
        )
        for name, preprocessing in {"unit": UNIT, **OWN}.items()
    }
    np.save(folder / "marked.npy", levels)
    return Models(folders, f"npz:{folder / 'marked.npz'}", f"npy:{folder / 'marked.npy'}")


@pytest.mark.parametrize("own", OWN)
def test_evaluate_gives_a_model_its_own_values(models: Models, own: str) -> None:
    """A density in a unit that is k times smaller is k times lower, and nothing else differs."""
    unit, other = (
        evaluate(open_subject(models.folders[name]), models.spec, rows=300, samples=1).statistics
        for name in ("unit", own)
    )
    assert other.kl_nats == pytest.approx(unit.kl_nats, rel=1e-4)
    wider = math.prod(SHAPE) * math.log(OWN[own][0] * 255)
    assert other.negative_elbo_nats == pytest.approx(unit.negative_elbo_nats + wider, rel=1e-4)


@pytest.fixture
def fitted(models: Models, run_command: Run) -> Callable[..., dict[str, Any]]:
    """Fit something to one of the models; what the command prints."""

    def fit(name: str, command: str, *options: object) -> dict[str, Any]:
        data = ("--data", models.spec, "--json")
        result = run_command(command, models.folders[name], *options, *data)
        assert result.exit_code == 0, result.output
        values: dict[str, Any] = json.loads(result.stdout)
        return values

    return fit


@pytest.mark.parametrize("own", OWN)
def test_a_prior_is_fitted_to_posteriors_of_its_own_values(
    fitted: Callable[..., dict[str, Any]], own: str
) -> None:
    unit, other = (fitted(name, "fit-prior", "--components", 3) for name in ("unit", own))
    for figure in ("held_out_nats", "standard_nats"):
        assert other[figure] == pytest.approx(unit[figure], abs=1e-3)


@pytest.mark.parametrize("own", OWN)
def test_a_direction_is_that_of_its_own_values(
    fitted: Callable[..., dict[str, Any]], own: str
) -> None:
    directions = []
    for name in ("unit", own):
        folder = Path(fitted(name, "fit-attribute", "upper", "--positive", 1)["folder"])
        info = bundle.read_manifest(folder)
        content = bundle.read_files(folder, info)[bundle.ATTRIBUTES]
        directions.append(archives.read_attributes(content, info))
    np.testing.assert_allclose(directions[1], directions[0], atol=1e-3)


@pytest.mark.parametrize("own", OWN)
def test_a_page_shows_the_same_pictures(
    models: Models, run_command: Run, tmp_path: Path, own: str
) -> None:
    def pictures(name: str) -> dict[str, npt.NDArray[np.int64]]:
        page = tmp_path / f"{name}.html"
        result = run_command(
            "diagnose", models.folders[name], "--data", models.unlabelled, "--out", page
        )
        assert page.exists(), result.output
        found = re.findall(
            r'<img src="data:image/png;base64,([^"]+)" alt="([^"]+)"', page.read_text()
        )
        return {
            about: np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))).astype(np.int64)
            for content, about in found
        }

    unit, other = pictures("unit"), pictures(own)
    assert {"inputs", "reconstructions from the mean", "decoded draws from the prior"} <= set(unit)
    np.testing.assert_array_equal(other["inputs"], unit["inputs"])
    assert np.ptp(unit["inputs"]) == 255
    for about, picture in unit.items():
        assert np.abs(other[about] - picture).max() <= 1, about


def test_levels_that_its_likelihood_does_not_allow_are_refused(
    tmp_path: Path, refused: Callable[..., str], run_command: Run
) -> None:
    """The model reads levels 0..16. `digits` has 0..255, in [0, 1]; the file has its levels."""

    class Squashed(Decoder):
        def forward(self, z: Tensor) -> Tensor:
            return super().forward(z).sigmoid()

    folder = export_modules(
        Encoder(*UNIT),
        Squashed(*UNIT),
        name="bernoulli",
        repository=tmp_path / "models",
        input_shape=SHAPE,
        likelihood="bernoulli",
        preprocessing=(1 / 16, 0.0),
    )
    for command, *options in (["evaluate"], ["fit-prior"], ["fit-attribute", "x", "--positive", 1]):
        line = refused(command, folder, *options, "--data", "digits")
        assert (
            "digits: values are 0 to 15.9375; bernoulli 1 takes [0, 1], and reads a level" in line
        )
        assert "level * 0.0625 + 0" in line
    levels = np.random.default_rng(0).integers(0, 17, (40, 8, 8)).astype(np.uint8)
    np.save(tmp_path / "levels.npy", levels)
    data = ("--data", f"npy:{tmp_path / 'levels.npy'}", "--samples", 1, "--part", "train", "--json")
    measured = run_command("evaluate", folder, *data)
    assert measured.exit_code == 0, measured.output
    expected = open_subject(folder).encode(torch.from_numpy(levels[:, None] / np.float32(16)))[0]
    found = json.loads(measured.stdout)["statistics"]["aggregated_mean"]
    np.testing.assert_allclose(found, expected.mean(0), atol=0.1)
