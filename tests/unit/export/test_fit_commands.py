"""`fit-prior` and `fit-attribute`: what they store where, what export takes along, and refusals."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from vaeserve.v1 import archives, bundle
from vaeserve_export.bundling.of_run import export_run
from vaeserve_export.data.dataset import Dataset
from vaeserve_export.training import run as run_folder

Run = Callable[..., Result]
Refused = Callable[..., str]
Fit = Callable[..., dict[str, Any]]


@pytest.fixture
def run(marked_run: Path, tmp_path: Path) -> Path:
    """A copy of a finished run."""
    return Path(shutil.copytree(marked_run, tmp_path / "run"))


@pytest.fixture(scope="module")
def models(marked_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with that run's bundle. Not to be changed."""
    return export_run(marked_run, tmp_path_factory.mktemp("models"), "marked").parent.parent


@pytest.fixture
def version(models: Path, tmp_path: Path) -> Path:
    """A copy of the bundle, in a repository of its own."""
    return Path(shutil.copytree(models, tmp_path / "repository")) / "marked" / "1"


@pytest.fixture(scope="module")
def spec(marked: Dataset, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The data, as a user names it."""
    assert marked.labels is not None
    file = tmp_path_factory.mktemp("data") / "marked.npz"
    np.savez(file, x=marked.x, labels=marked.labels)
    return f"npz:{file}"


@pytest.fixture
def fit(spec: str, run_command: Run) -> Fit:
    """Run a command of the two on that data; what it prints."""

    def run_fit(name: str, *arguments: object) -> dict[str, Any]:
        result = run_command(name, *arguments, "--data", spec, "--json")
        assert result.exit_code == 0, result.output
        values: dict[str, Any] = json.loads(result.stdout)
        return values

    return run_fit


def test_a_run_keeps_what_was_fitted_and_export_takes_it(
    run: Path, tmp_path: Path, fit: Fit, run_command: Run
) -> None:
    prior = fit("fit-prior", run, "--components", 2)
    assert prior["folder"] == str(run)
    assert prior["components"] == 2
    fit("fit-attribute", run, "upper", "--positive", 1)
    fit("fit-attribute", run, "lower", "--positive", 2, "--project-out", "upper")

    exported = run_command("export", run, "--repository", tmp_path / "models", "--name", "marked")
    assert exported.exit_code == 0, exported.output
    place = tmp_path / "models" / "marked" / "1"
    info = bundle.read_manifest(place)
    files = bundle.read_files(place, info)
    mixture = archives.read_prior(files[bundle.PRIOR], info)
    assert mixture.means.shape == (2, 6)
    assert info.prior.held_out_nats == prior["held_out_nats"]
    assert [entry.name for entry in info.attributes] == ["lower", "upper"]
    lower, upper = archives.read_attributes(files[bundle.ATTRIBUTES], info).astype(np.float64)
    assert lower @ upper == pytest.approx(0, abs=1e-6)
    assert 0.5 < info.attributes[1].auc <= 1


def test_what_comes_next_is_said_beside_the_result(
    run: Path, version: Path, spec: str, run_command: Run
) -> None:
    def said(name: str, model: Path, *arguments: object) -> tuple[str, str]:
        result = run_command(name, model, *arguments, "--data", spec)
        assert result.exit_code == 0, result.output
        return result.stdout, result.stderr

    export = f"kept in the run; next, to serve it: vaeserve export {run} --repository DIR"
    prior, after_prior = said("fit-prior", run, "--components", 1)
    assert "\n1 component over 6 of 6 dimensions, " in prior
    assert prior.endswith(f"\n{run}\n")
    assert after_prior == f"{export} --name NAME\n"
    upper, after_upper = said("fit-attribute", run, "upper", "--positive", 1)
    assert upper.endswith(f"\n{run}\n")
    assert after_upper == after_prior

    two, after_two = said("fit-prior", version, "--components", 2, "--seed", 0)
    assert "\n2 components over 6 of 6 dimensions, " in two
    assert two.endswith(f"\n{version.parent / '2'}\n")
    assert after_two == (
        "wrote version 2 of marked; a server that is running keeps the version it has until it is "
        "restarted\n"
    )


def test_an_attribute_of_the_same_name_is_replaced(run: Path, fit: Fit) -> None:
    first = fit("fit-attribute", run, "upper", "--positive", 1)
    again = fit("fit-attribute", run, "upper", "--positive", 1, "--method", "mean-difference")
    assert (first["name"], again["method"]) == ("upper", "mean-difference")
    entries = json.loads((run / "latent.json").read_text())["attributes"]
    assert [entry["method"] for entry in entries] == ["mean-difference"]


def test_a_bundle_is_never_changed_its_next_version_has_it(version: Path, fit: Fit) -> None:
    before = {file.name: file.read_bytes() for file in version.iterdir()}
    prior = fit("fit-prior", version, "--components", 1)
    second = version.parent / "2"
    assert prior["folder"] == str(second)
    upper = fit("fit-attribute", second, "upper", "--positive", 1)
    third = version.parent / "3"
    assert upper["folder"] == str(third)

    assert {file.name: file.read_bytes() for file in version.iterdir()} == before
    info = bundle.read_manifest(third)
    files = bundle.read_files(third, info)
    assert info.version == 3
    assert info.latent_space_id == bundle.read_manifest(version).latent_space_id
    assert files[bundle.ENCODER] == before[bundle.ENCODER]
    assert len(archives.read_prior(files[bundle.PRIOR], info).weights) == 1
    assert archives.read_attributes(files[bundle.ATTRIBUTES], info).shape == (1, 6)


def test_run_and_bundle_give_the_same_fit(run: Path, version: Path, fit: Fit) -> None:
    of_run, of_bundle = (fit("fit-prior", model, "--components", 1) for model in (run, version))
    assert of_run["held_out_nats"] == pytest.approx(of_bundle["held_out_nats"], abs=1e-4)


def test_labels_from_files(
    run: Path, marked: Dataset, spec: str, tmp_path: Path, fit: Fit, run_command: Run
) -> None:
    assert marked.labels is not None
    np.save(tmp_path / "any.npy", marked.labels > 0)
    lower = "\n".join(["lower", *(str(int(label // 2)) for label in marked.labels)])
    (tmp_path / "lower.csv").write_text(lower + "\n")
    result = run_command(
        "fit-attribute", run, "any", "--data", spec, "--labels", tmp_path / "any.npy",
        "--balance", tmp_path / "lower.csv",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "balanced by lower" in result.output
    assert "warning: correlated with lower" in result.stderr
    same = fit("fit-attribute", run, "lower", "--labels", tmp_path / "lower.csv")
    train_rows = len(marked.x) - len(marked.x) // 10
    assert int(str(same["positives"])) + int(str(same["negatives"])) == train_rows


def test_labels_as_spreadsheets_and_pandas_write_them(
    run: Path, marked: Dataset, tmp_path: Path, fit: Fit
) -> None:
    assert marked.labels is not None
    upper = marked.labels % 2
    assert upper[0] == 1  # or 1.0, which must not be taken for a heading
    for name, content in (
        ("bom.csv", "\ufeff" + "\n".join(map(str, upper))),
        ("floats.csv", "\n".join(f"{label}.0" for label in upper)),
        ("headed.csv", "\ufeffupper\n" + "\n".join(map(str, upper))),
    ):
        (tmp_path / name).write_text(content, encoding="utf-8")
    bom, floats, headed = (
        fit("fit-attribute", run, "upper", "--labels", tmp_path / f"{name}.csv")
        for name in ("bom", "floats", "headed")
    )
    assert bom == floats == headed


def test_a_prior_that_is_worse_than_the_standard_one_warns(
    run: Path, marked: Dataset, tmp_path: Path, run_command: Run
) -> None:
    """With so few rows, and so many components, it is one of these rows only."""
    np.save(tmp_path / "few.npy", marked.x[:40])
    data = ("--data", f"npy:{tmp_path / 'few.npy'}", "--components", 2)
    for options in ((), ("--json",)):
        result = run_command("fit-prior", run, *data, *options)
        assert result.exit_code == 0, result.output
        assert "warning: the fitted prior is worse than N(0, I), by " in result.stderr
        assert "warning" not in result.stdout


def test_refusals_are_one_line(run: Path, spec: str, tmp_path: Path, refused: Refused) -> None:
    data = ("--data", spec)
    np.save(tmp_path / "few.npy", np.ones(3, np.int64))
    np.save(tmp_path / "half.npy", np.full(1797, 0.5))
    (tmp_path / "wide.csv").write_text("0,1\n1,0\n")
    (tmp_path / "labels.txt").write_text("0\n")
    (tmp_path / "half.csv").write_text("0\n0.5\n")
    (tmp_path / "huge.csv").write_text("0\n1e300\n")
    assert "'a=b'" in refused("fit-attribute", run, "a=b", *data, "--positive", 3)
    assert "of class 11" in refused("fit-attribute", run, "ellower", *data, "--positive", 11)
    for file, message in (
        ("few.npy", "marked.npz has 1797 rows"),
        ("half.csv", "no whole numbers, one for each row: '0.5' is none"),
        ("huge.csv", "no whole numbers, one for each row"),
        ("half.npy", "no array of integers or booleans"),
        ("wide.csv", "more than one column"),
        ("labels.txt", ".npy or .csv"),
        ("none.npy", "No such file"),
    ):
        said = refused("fit-attribute", run, "x", *data, "--labels", tmp_path / file)
        assert message in said
    said = refused("fit-attribute", run, "x", *data, "--positive", 3, "--project-out", "smile")
    assert "no attribute 'smile' was fitted; there is: none" in said
    assert "is neither a run" in refused("fit-prior", tmp_path, *data)


def test_what_was_fitted_to_other_weights_is_refused(
    run: Path, tmp_path: Path, fit: Fit, refused: Refused
) -> None:
    fit("fit-prior", run, "--components", 1)
    weights = run / run_folder.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    said = refused("export", run, "--repository", tmp_path / "models", "--name", "marked")
    assert "model.safetensors: is not what latent.json was written for" in said


def test_a_bundle_outside_a_repository_has_no_next_version(
    version: Path, spec: str, tmp_path: Path, refused: Refused
) -> None:
    moved = shutil.move(version, tmp_path / "bundle")
    said = refused("fit-prior", moved, "--data", spec, "--components", 1, "--seed", 0)
    assert "REPOSITORY/marked/1" in said
