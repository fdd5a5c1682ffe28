"""What is said to be held out was: by the digests of the data, and by the seed of the split."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch
from click.testing import Result
from torch import Tensor, nn

from vaeserve_export import export_modules
from vaeserve_export.bundling.of_run import export_run
from vaeserve_export.data.dataset import Dataset, load
from vaeserve_export.training.settings import TrainSettings
from vaeserve_export.training.train import train

Run = Callable[..., Result]

NOT_ITS = "is not what"
AMONG = ": the rows that report may be among those it was trained on"


class Trained(NamedTuple):
    """Runs and bundles: `own` of data with a validation part, `split` of what seed 1 splits."""

    own: Path
    split: Path
    own_bundle: Path
    split_bundle: Path
    own_data: str
    split_data: str
    other_data: str  # with a validation part of its own


@pytest.fixture(scope="module")
def trained(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("held-out")
    x = (digits.x * 255).round().astype(np.uint8)
    labels = digits.labels
    assert labels is not None

    def write(name: str, rows: slice, valid: slice | None) -> str:
        arrays: dict[str, npt.NDArray[np.generic]] = {"x": x[rows], "labels": labels[rows]}
        if valid:
            arrays |= {"valid": x[valid], "valid_labels": labels[valid]}
        np.savez(folder / name, **arrays)  # type: ignore[arg-type]
        return f"npz:{folder / name}.npz"

    own_data = write("own", slice(0, 600), slice(600, 800))
    split_data = write("split", slice(0, 600), None)
    other_data = write("other", slice(0, 900), slice(900, 1000))
    own, split = folder / "own", folder / "split"
    for run, spec, seed in ((own, own_data, 0), (split, split_data, 1)):
        settings = TrainSettings(
            epochs=10, batch_size=32, learning_rate=5e-3, latent_dim=3, threads=1, seed=seed
        )
        train(settings, load(spec), run)
    own_bundle, split_bundle = (
        export_run(run, folder / "models", run.name) for run in (own, split)
    )
    return Trained(own, split, own_bundle, split_bundle, own_data, split_data, other_data)


@pytest.fixture
def evaluated(run_command: Run) -> Callable[..., tuple[bool, str]]:
    """Measure a model: whether its validation rows were held out, and what is warned of."""

    def evaluate(model: Path, spec: str, *options: object) -> tuple[bool, str]:
        few = ("--rows", 20, "--samples", 1, "--part", "validation", "--json")
        result = run_command("evaluate", model, "--data", spec, *few, *options)
        assert result.exit_code == 0, result.output
        warnings = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
        return json.loads(result.stdout)["held_out"], "\n".join(warnings)

    return evaluate


def test_a_models_own_validation_rows_are_held_out(
    trained: Trained, evaluated: Callable[..., tuple[bool, str]]
) -> None:
    assert evaluated(trained.own, trained.own_data) == (True, "")
    assert evaluated(trained.own_bundle, trained.own_data) == (True, "")
    assert evaluated(trained.split, trained.split_data) == (True, "")


def test_validation_rows_of_other_data_are_not(
    trained: Trained, evaluated: Callable[..., tuple[bool, str]], refused: Callable[..., str]
) -> None:
    """Those of other data may have been trained on, though that source sets them aside."""
    for model in (trained.own, trained.split, trained.own_bundle, trained.split_bundle):
        held_out, warning = evaluated(model, trained.other_data)
        assert not held_out
        assert "some of these rows may be among those that" in warning
    for run in (trained.own, trained.split):
        assert NOT_ITS in refused("diagnose", run, "--data", trained.other_data)


def test_pixels_other_than_the_trainings_are_warned_of(
    trained: Trained,
    digits: Dataset,
    evaluated: Callable[..., tuple[bool, str]],
    tmp_path: Path,
) -> None:
    settings = TrainSettings(epochs=1, hidden=8, latent_dim=2, threads=1, binarise=True)
    train(settings, digits, tmp_path / "drawn")
    _, grey = evaluated(tmp_path / "drawn", "digits")
    assert "drawn was trained on pixels that are drawn, these figures are of grey levels" in grey
    assert grey.endswith("add --binarise")
    _, drawn = evaluated(trained.own, trained.own_data, "--binarise")
    assert "own was trained on grey levels, these figures are of pixels that are drawn" in drawn
    assert drawn.endswith("leave out --binarise")
    assert evaluated(tmp_path / "drawn", "digits", "--binarise") == (True, "")
    # A bundle does not tell how it was trained.
    assert evaluated(trained.own_bundle, trained.own_data, "--binarise") == (True, "")


@pytest.fixture
def fitted(run_command: Run) -> Callable[..., list[str]]:
    """Fit a prior and an attribute; what both warn of, which must be the same."""

    def fit(model: Path, spec: str, *options: object) -> list[str]:
        found = []
        for command, *own in (
            ["fit-prior", "--components", 1],
            ["fit-attribute", "one", "--positive", 1, "--method", "mean-difference"],
        ):
            result = run_command(command, model, *own, "--data", spec, *options)
            assert result.exit_code == 0, result.output
            found.append([line for line in result.stderr.splitlines() if AMONG in line])
        assert found[0] == found[1]
        return found[0]

    return fit


def test_fits_warn_of_rows_that_may_have_been_trained_on(
    trained: Trained, fitted: Callable[..., list[str]]
) -> None:
    for model, spec, options, doubt in (
        (trained.own, trained.own_data, (), None),
        (trained.own, trained.own_data, ("--seed", 7), None),
        (trained.own_bundle, trained.own_data, (), None),
        (trained.split, trained.split_data, (), None),
        (trained.split, trained.split_data, ("--seed", 0), "split was trained with seed 1, not 0"),
        (trained.split_bundle, trained.split_data, ("--seed", 1), None),
        (trained.split_bundle, trained.split_data, (), "split 1 does not tell the seed"),
        (trained.own, trained.other_data, (), f"{NOT_ITS} own was trained on"),
        (trained.own_bundle, trained.other_data, (), f"{NOT_ITS} own 1 was trained on"),
    ):
        said = fitted(model, spec, *options)
        assert len(said) == (doubt is not None), said
        assert (doubt or "") in "".join(said)


def test_an_attribute_is_reported_on_the_sources_own_validation_rows(
    trained: Trained, tmp_path: Path, run_command: Run, refused: Callable[..., str]
) -> None:
    """Labels in a file are of both parts, and those of the second are turned here."""
    data = load(trained.own_data)
    assert data.labels is not None
    assert data.validation is not None
    assert data.validation.labels is not None
    wanted = np.concatenate([data.labels == 0, data.validation.labels != 0])
    np.save(tmp_path / "labels.npy", wanted)
    common = ("fit-attribute", trained.own, "zero", "--data", trained.own_data)
    method = ("--method", "mean-difference", "--json")
    straight = json.loads(run_command(*common, *method, "--positive", 0).stdout)
    turned = json.loads(run_command(*common, *method, "--labels", tmp_path / "labels.npy").stdout)
    positives = (data.labels == 0).sum()
    assert int(straight["positives"]) == int(turned["positives"]) == positives
    assert straight["auc"] > 0.8
    assert turned["auc"] == pytest.approx(1 - straight["auc"])

    np.save(tmp_path / "few.npy", wanted[:600])
    said = refused(*common, "--labels", tmp_path / "few.npy")
    assert "holds [600] labels, " in said
    assert "has 600 rows to train on and 200 for validation, in this order" in said


def test_validation_rows_without_labels(
    trained: Trained, tmp_path: Path, refused: Callable[..., str]
) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (30, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "a.npz", x=rows, labels=np.arange(30) % 2, valid=rows[:5])
    data = ("--data", f"npz:{tmp_path / 'a.npz'}")
    said = refused("fit-attribute", trained.own, "one", *data, "--positive", 1)
    assert "its rows for validation have no labels of their own; give --labels" in said


def test_modules_tell_nothing_of_their_training(
    tmp_path: Path, fitted: Callable[..., list[str]]
) -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(2, 4)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            mu, log_var = self.body(x).chunk(2, 1)
            return mu, log_var

    torch.manual_seed(0)
    folder = export_modules(
        Encoder(),
        nn.Linear(2, 2),
        name="modules",
        repository=tmp_path / "models",
        input_shape=(2,),
        likelihood="gaussian",
        gaussian_variance=1.0,
    )
    x = np.random.default_rng(0).normal(size=(200, 2))
    np.savez(tmp_path / "x.npz", x=x, labels=(x[:, 0] > 0).astype(np.int64))
    for options in ((), ("--seed", 3)):
        (said,) = fitted(folder, f"npz:{tmp_path / 'x.npz'}", *options)
        assert "is not known to be what modules 1 was trained on" in said


@pytest.mark.parametrize("seed", [2**32, 2**64 - 1, 2**64])
def test_seeds_are_what_64_bits_hold(trained: Trained, run_command: Run, seed: int) -> None:
    commands: dict[str, tuple[object, ...]] = {
        "evaluate": ("--samples", 2, "--rows", 5, "--binarise"),
        "fit-prior": (),
        "fit-attribute": ("one", "--positive", 1),
    }
    for command, options in commands.items():
        data = ("--data", trained.own_data, "--seed", seed)
        result = run_command(command, trained.own, *options, *data)
        assert result.exit_code == (2 if seed == 2**64 else 0), result.output
