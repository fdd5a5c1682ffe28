"""`vaeserve diagnose`: what it prints, its exit status, and the page it writes."""

import json
import re
from collections.abc import Callable
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from vaeserve_export import npz
from vaeserve_export.bundling.of_run import export_run
from vaeserve_export.data.dataset import Dataset, load
from vaeserve_export.evaluation.diagnosis import diagnose
from vaeserve_export.evaluation.features import feature_net
from vaeserve_export.evaluation.likelihood import importance_bounds
from vaeserve_export.trained.open import open_subject
from vaeserve_export.training.settings import TrainSettings
from vaeserve_export.training.train import train

Run = Callable[..., Result]

SETTINGS = {
    "hidden": 64,
    "latent_dim": 6,
    "epochs": 40,
    "learning_rate": 5e-3,
    "schedule": "cosine",  # which levels out in so few epochs
    "threads": 1,
}
SECTIONS = [
    "Distance from the data",
    "Training",
    "Reconstructions",
    "Prior samples",
    "Interpolation",
    "Traversals",
    "Latent map",
    "KL per dimension",
    "Sigma",
    "Aggregated posterior",
]
FAULTY = 3


@pytest.fixture(autouse=True)
def _short_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    """A seventh of the training: what it sees is not what is tested here."""
    short = partial(feature_net, steps=150)
    monkeypatch.setattr("vaeserve_export.evaluation.diagnosis.feature_net", short)


@pytest.fixture(scope="module")
def runs(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A VAE and, of the same net, the autoencoder that beta = 0 makes of it."""
    folder = tmp_path_factory.mktemp("runs")
    for name, beta in (("vae", 1.0), ("plain", 0.0)):
        train(TrainSettings(**SETTINGS, beta=beta), digits, folder / name)  # type: ignore[arg-type]
    return folder / "vae", folder / "plain"


class _Reader(HTMLParser):
    """Collects what a page refers to, its headings and its pictures, and whether tags match."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.headings: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in {"meta", "img", "br", "path", "use"}:
            self.open.append(tag)
        links = {"src", "href", "xlink:href", "action", "data"}
        self.references += [value or "" for name, value in attrs if name in links]

    def handle_endtag(self, tag: str) -> None:
        if tag not in {"path", "use"}:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def read(path: Path) -> tuple[str, _Reader]:
    page = path.read_text(encoding="utf-8")
    reader = _Reader(page)
    assert reader.open == []
    for reference in reader.references:
        assert reference.startswith(("data:image/png;base64,", "#")), reference[:60]
    for url in re.findall(r"url\(([^)]*)\)", page):
        assert url.startswith("#")
    assert "script" not in reader.tags
    assert "@import" not in page
    return page, reader


def test_a_sound_run(runs: tuple[Path, Path], tmp_path: Path, run_command: Run) -> None:
    out = tmp_path / "page.html"
    result = run_command("diagnose", runs[0], "--out", out)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "vae: sound"
    assert result.stdout.splitlines()[-1] == f"page: {out}"
    page, reader = read(out)
    assert reader.headings == ["Sound: no fault found", *SECTIONS]
    # Inputs, means and draws; prior samples; two strips for each of four pairs; each dimension.
    assert reader.tags.count("img") == 3 + 1 + 8 + 6
    assert "prefers-color-scheme: dark" in page
    assert "#000001" not in page


def test_a_run_that_has_not_finished_learning(
    digits: Dataset, tmp_path: Path, run_command: Run
) -> None:
    """A remark and no fault: another colour, the same exit status."""
    train(TrainSettings(epochs=20, threads=1), digits, tmp_path / "short")
    out = tmp_path / "page.html"
    result = run_command("diagnose", tmp_path / "short", "--out", out)
    assert result.exit_code == 0
    title = "No fault found, but it has not finished learning: its loss was still falling"
    first, evidence, remedy = result.stdout.splitlines()[:3]
    assert first == f"short: {title} (still_improving)"
    assert evidence.startswith("    The best of 20 epochs is 20. ")
    assert "--resume --epochs 40" in remedy
    page, reader = read(out)
    assert reader.headings[0] == title
    assert '<div class="verdict remark">' in page

    as_json = run_command("diagnose", tmp_path / "short", "--out", out, "--json")
    assert as_json.exit_code == 0
    (model,) = json.loads(as_json.stdout)["models"]
    assert model["faults"] == []
    assert model["remark"]["name"] == "still_improving"
    assert model["remark"]["evidence"] == [evidence.strip()]


def test_a_fault(digits: Dataset, tmp_path: Path, run_command: Run) -> None:
    settings = TrainSettings(**SETTINGS | {"epochs": 15}, beta=64)  # type: ignore[arg-type]
    train(settings, digits, tmp_path / "run")
    out = tmp_path / "page.html"
    result = run_command("diagnose", tmp_path / "run", "--out", out, "--json")
    assert result.exit_code == FAULTY
    (model,) = json.loads(result.stdout, parse_constant=pytest.fail)["models"]
    (fault,) = model["faults"]
    assert fault["name"] == "reconstruction_averaged"
    assert model["remark"] is None  # more epochs of a wrong loss are no remedy
    # No dimension is active: JSON has no NaN for their median.
    assert model["evidence"]["validation"]["statistics"]["median_sigma_active"] is None
    page, reader = read(out)
    assert reader.headings[0] == fault["title"]
    assert fault["remedy"].split(",")[0].replace("'", "&#x27;") in page


def test_the_kl_is_what_keeps_samples_in_the_data(
    runs: tuple[Path, Path], tmp_path: Path, run_command: Run
) -> None:
    out = tmp_path / "page.html"
    result = run_command("diagnose", *runs, "--out", out, "--json")
    assert result.exit_code == FAULTY
    vae, plain = json.loads(result.stdout)["models"]
    ours, theirs = (model["evidence"]["validation"]["statistics"] for model in (vae, plain))
    assert theirs["median_sigma_active"] < 0.1 * ours["median_sigma_active"]
    assert theirs["negative_elbo_nats"] > ours["negative_elbo_nats"] + 10
    assert theirs["reconstruction_nats"] < ours["reconstruction_nats"]
    assert plain["departures"]["prior"]["frechet"] > 2 * vae["departures"]["prior"]["frechet"]
    assert plain["departures"]["held_out"] == vae["departures"]["held_out"]

    page, reader = read(out)
    assert reader.headings[2:] == ["In numbers", *SECTIONS]
    claim = re.search(r'<p class="claim">(.*?)</p>', page)
    assert claim
    assert "Without the KL (plain) sigma is" in claim[1]
    assert "times as far from the data" in claim[1]


def test_a_bundle(runs: tuple[Path, Path], tmp_path: Path, run_command: Run) -> None:
    bundle = export_run(runs[0], tmp_path / "repository", "digits")
    out = tmp_path / "page.html"
    result = run_command("diagnose", bundle, "--data", "digits", "--out", out)
    assert result.exit_code == 0
    _, reader = read(out)
    assert "Training" not in reader.headings
    assert "Interpolation" in reader.headings


def test_vectors_have_no_pictures(tmp_path: Path, run_command: Run) -> None:
    random = np.random.default_rng(0)
    z = random.normal(size=(400, 2))
    x = np.concatenate([z, z @ random.normal(size=(2, 3))], 1) + 0.1 * random.normal(size=(400, 5))
    np.savez(tmp_path / "rows.npz", x=x.astype(np.float32))
    data = ("--data", f"npz:{tmp_path / 'rows.npz'}")
    run = tmp_path / "run"
    made = run_command(
        *("train", *data, "--out", run, "--likelihood", "gaussian", "--epochs", 30, "--threads", 1),
        *("--latent-dim", 2, "--learning-rate", 0.01),
    )
    assert made.exit_code == 0
    result = run_command("diagnose", run, "--out", tmp_path / "page.html")
    assert result.exit_code == 0, result.stdout
    page, reader = read(tmp_path / "page.html")
    assert "Reconstructions" not in reader.headings
    assert "Distance from the data" not in reader.headings  # there are no labels to learn from
    assert "Latent map" in reader.headings
    assert "no Frechet distances" in page


@pytest.mark.parametrize("labelled", [False, True])
def test_a_single_validation_row(
    digits: Dataset, tmp_path: Path, refused: Callable[..., str], labelled: bool
) -> None:
    assert digits.labels is not None
    few = {"x": digits.x[:12]} | ({"labels": digits.labels[:12]} if labelled else {})
    (tmp_path / "few.npz").write_bytes(npz.to_bytes(few))
    settings = TrainSettings(**SETTINGS | {"epochs": 1})  # type: ignore[arg-type]
    train(settings, load(f"npz:{tmp_path / 'few.npz'}"), tmp_path / "few")
    line = refused("diagnose", tmp_path / "few", "--out", tmp_path / "page.html")
    assert "1 validation row: a spread needs two at least" in line
    assert "give it more rows, or a validation part" in line


@pytest.mark.parametrize("level", [0, 255])
def test_pictures_of_one_level(tmp_path: Path, run_command: Run, level: int) -> None:
    np.savez(tmp_path / "blank.npz", x=np.full((20, 8, 8), level, np.uint8))
    settings = TrainSettings(latent_dim=4, epochs=60, threads=1, learning_rate=0.01)
    train(settings, load(f"npz:{tmp_path / 'blank.npz'}"), tmp_path / "blank")
    result = run_command("diagnose", tmp_path / "blank", "--out", tmp_path / "page.html", "--json")
    assert result.exit_code == FAULTY
    (model,) = json.loads(result.stdout, parse_constant=pytest.fail)["models"]
    assert [fault["name"] for fault in model["faults"]] == ["posterior_collapse"]
    assert model["evidence"]["worthwhile_weight"] == 0


def test_the_bounds_error_is_its_own(tmp_path: Path) -> None:
    """Rows whose nats differ little, and far more under a constant answer."""
    random = np.random.default_rng(0)
    x = random.normal(size=(3000, 1)) * np.ones(8) + 0.1 * random.normal(size=(3000, 8))
    np.save(tmp_path / "rows.npy", x.astype(np.float32))
    settings = TrainSettings(
        latent_dim=1, epochs=15, threads=1, likelihood="gaussian", gaussian_variance=0.02
    )
    train(settings, load(f"npy:{tmp_path / 'rows.npy'}"), tmp_path / "run")
    (found,) = diagnose([open_subject(tmp_path / "run")])
    bound = importance_bounds(found.subject, found.validation.x, 10)[-1]
    assert found.bound.standard_error == pytest.approx(bound.standard_error, rel=0.25)
    assert found.bound.standard_error < 0.5 * found.evidence.validation.gain_error


def test_a_bundle_does_not_know_its_data(
    runs: tuple[Path, Path], tmp_path: Path, refused: Callable[..., str]
) -> None:
    bundle = export_run(runs[0], tmp_path / "repository", "digits")
    line = refused("diagnose", bundle, "--out", tmp_path / "page.html")
    assert "name them with --data" in line


def test_other_data_than_the_runs(
    runs: tuple[Path, Path], digits: Dataset, tmp_path: Path, refused: Callable[..., str]
) -> None:
    np.savez(tmp_path / "rows.npz", x=digits.x[::2])
    other = f"npz:{tmp_path / 'rows.npz'}"
    line = refused("diagnose", runs[0], "--data", other, "--out", tmp_path / "page.html")
    assert "is not what vae was trained on" in line


def test_two_models_of_other_data(
    runs: tuple[Path, Path], few_digits: Dataset, tmp_path: Path, refused: Callable[..., str]
) -> None:
    settings = TrainSettings(**SETTINGS | {"epochs": 1})  # type: ignore[arg-type]
    train(settings, few_digits, tmp_path / "few")
    line = refused("diagnose", runs[0], tmp_path / "few", "--out", tmp_path / "page.html")
    assert "were trained on different data" in line


def test_a_page_that_cannot_be_written(
    runs: tuple[Path, Path], tmp_path: Path, refused: Callable[..., str]
) -> None:
    assert "is no folder" in refused("diagnose", runs[0], "--out", tmp_path / "no" / "x.html")
