"""Sources whose files are sorted by class: a few rows must still be a sample of all."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from click.testing import Result
from torch import Tensor, nn

from vaeserve.v1 import bundle
from vaeserve_export import export_modules
from vaeserve_export.bundling.of_run import export_run
from vaeserve_export.data.dataset import load
from vaeserve_export.evaluation.evidence import ROWS, rows_for
from vaeserve_export.trained.open import open_subject
from vaeserve_export.training.settings import TrainSettings
from vaeserve_export.training.train import train

Run = Callable[..., Result]

CLASSES = 10


def _rows(count: int, seed: int) -> dict[str, npt.NDArray[np.generic]]:
    """Class by class, each ten times as far from 0 as it is wide."""
    labels = np.arange(count) * CLASSES // count
    rng = np.random.default_rng(seed)
    x = labels[:, None] / CLASSES + rng.normal(0, 0.01, (count, 4))
    return {"x": x.astype(np.float32), "labels": labels}


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Every part is sorted; two are larger than what is looked at of them."""
    file = tmp_path_factory.mktemp("sorted") / "sorted.npz"
    learned, valid, test = _rows(4000, 0), _rows(3000, 1), _rows(500, 2)
    np.savez(
        file,
        x=learned["x"],
        labels=learned["labels"],
        valid=valid["x"],
        valid_labels=valid["labels"],
        test=test["x"],
    )
    return f"npz:{file}"


@pytest.fixture(scope="module")
def run(spec: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on it."""
    folder = tmp_path_factory.mktemp("run") / "run"
    settings = TrainSettings(
        likelihood="gaussian", gaussian_variance=0.01, epochs=3, hidden=16, latent_dim=2, threads=1
    )
    train(settings, load(spec), folder)
    return folder


def test_a_diagnosis_looks_at_every_class(run: Path, spec: str) -> None:
    for rows in rows_for(open_subject(run), spec, None, binarise=False):
        assert rows.data.labels is not None
        assert len(rows.x) == ROWS < len(rows.data.x)
        np.testing.assert_array_equal(rows.x, rows.data.x[:ROWS])
        counts = np.bincount(rows.data.labels[:ROWS], minlength=CLASSES)
        assert counts.min() > 0.7 * ROWS / CLASSES


@pytest.mark.parametrize("part", ["test", "validation", "train"])
def test_some_rows_of_a_part_are_measured_as_all_are(
    run: Path, spec: str, run_command: Run, part: str
) -> None:
    def mean(*options: object) -> float:
        common = ("--data", spec, "--part", part, "--samples", 1, "--json", *options)
        result = run_command("evaluate", run, *common)
        assert result.exit_code == 0, result.output
        kl: float = json.loads(result.stdout)["statistics"]["kl_nats"]
        return kl

    whole = mean()
    assert mean("--rows", 300) == pytest.approx(whole, rel=0.1)
    assert mean("--rows", 300, "--seed", 1) == pytest.approx(whole, rel=0.1)


def test_int8_of_a_run_is_set_on_every_class(run: Path, spec: str, tmp_path: Path) -> None:
    """Set on the first rows, which lie near 0, it would clip all others."""
    folder = export_run(run, tmp_path, "sorted", precision="int8", dataset=load(spec))
    assert abs(bundle.read_manifest(folder).precision_cost_nats) < 1


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(4, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu, log_var = self.head(self.first(x).relu()).chunk(2, 1)
        return mu, log_var


def test_int8_of_modules_is_set_on_every_class(tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder = export_modules(
        Encoder(),
        nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 4)),
        name="modules",
        repository=tmp_path,
        input_shape=(4,),
        likelihood="gaussian",
        gaussian_variance=0.01,
        calibration_rows=10 * _rows(4000, 0)["x"],
        precision="int8",
    )
    assert abs(bundle.read_manifest(folder).precision_cost_nats) < 20
