"""What a run records, and settings that it refuses."""

import dataclasses
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unit.export.training_runs import SMALL, Killed, Killer, metrics
from vaeserve_export.data.dataset import Dataset, split
from vaeserve_export.errors import RunError, TrainError
from vaeserve_export.training import (
    provenance,
)
from vaeserve_export.training.rows import prepare
from vaeserve_export.training.run import load_model, read_config
from vaeserve_export.training.settings import TrainSettings
from vaeserve_export.training.tensorboard import TensorBoard
from vaeserve_export.training.train import train
from vaeserve_export.vae.objective import evaluate


def test_no_pickle(few_digits: Dataset, tmp_path: Path) -> None:
    train(SMALL, few_digits, tmp_path / "run")
    assert {path.suffix for path in (tmp_path / "run").iterdir()} == {
        ".json",
        ".jsonl",
        ".npz",
        ".safetensors",
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "cnn"}, "choose from mlp, conv"),
        ({"likelihood": "poisson"}, "choose from bernoulli, continuous-bernoulli, gaussian, l2"),
        ({"activation": "step"}, "choose from relu, tanh, silu, gated"),
        ({"free_bits": -0.1}, "free_bits must not be negative"),
        ({"likelihood": "l2", "learn_variance": True}, "only the variance of likelihood gaussian"),
        ({"model": "conv", "layers": 2}, "layers is of mlp and ae"),
        ({"kl_cycle_epochs": 4}, "kl_warmup_epochs must be 1 to kl_cycle_epochs"),
        ({"kl_cycle_epochs": 4, "kl_warmup_epochs": 5}, "must be 1 to kl_cycle_epochs"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"learning_rate": math.nan}, "learning_rate must be above 0"),
        ({"beta": -1.0}, "beta must not be negative"),
        ({"seed": 2**64}, r"seed must be below 2\*\*64"),
        ({"likelihood": "gaussian", "binarise": True}, "binarised data is Bernoulli"),
    ],
)
def test_settings_out_of_range(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainError, match=message):
        TrainSettings(**change)


def test_run_that_cannot_be_written(few_digits: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be made: "):
        train(SMALL, few_digits, tmp_path / "file" / "run")


def test_config_tells_the_run(few_digits: Dataset, tmp_path: Path) -> None:
    train(SMALL, few_digits, tmp_path / "run")
    config = read_config(tmp_path / "run")
    assert config.settings == SMALL
    assert config.data_sha256 == few_digits.sha256
    assert config.versions.keys() - {"git"} == {"python", "torch", "vaeserve"}
    assert config.threads == 1  # measured: a step of so small a net is over before they start


def test_calibration_describes_the_validation_rows(few_digits: Dataset, tmp_path: Path) -> None:
    train(SMALL, few_digits, tmp_path / "run")
    with np.load(tmp_path / "run" / "calibration.npz", allow_pickle=False) as archive:
        found = dict(archive)
    _, rows = prepare(SMALL, few_digits, 0)
    terms = evaluate(load_model(tmp_path / "run"), rows.x, torch.zeros(20, 4))
    elbo = (terms.reconstruction + terms.kl).double()
    assert found["percent"].tolist() == list(range(101))
    for name, nats in (("kl_nats", terms.kl), ("negative_elbo_nats", elbo)):
        assert found[name][[0, 100]] == pytest.approx([float(nats.min()), float(nats.max())])
        assert (np.diff(found[name]) >= 0).all()
    np.testing.assert_allclose(found["mu_mean"], terms.mu.double().mean(0), rtol=1e-6)
    np.testing.assert_allclose(found["mu_variance"], terms.mu.double().numpy().var(0), rtol=1e-6)
    np.testing.assert_allclose(
        found["sigma2_mean"], terms.log_var.exp().double().mean(0), rtol=1e-5
    )


def test_calibration_is_of_rows_as_callers_send_them(few_digits: Dataset, tmp_path: Path) -> None:
    """Grey, although the rows that training and its summary see are binarised."""
    settings = dataclasses.replace(SMALL, binarise=True)
    train(settings, few_digits, tmp_path / "run")
    with np.load(tmp_path / "run" / "calibration.npz", allow_pickle=False) as archive:
        kl = archive["kl_nats"]
    _, held_out = split(200, settings.seed)
    grey = torch.from_numpy(few_digits.x[held_out])
    terms = evaluate(load_model(tmp_path / "run"), grey, torch.zeros(20, 4))
    assert kl[[0, 100]] == pytest.approx([float(terms.kl.min()), float(terms.kl.max())])


def test_the_state_of_the_code_is_recorded(
    few_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=A", "-c", "user.email=a@example.org")
        command = ["git", *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert "git" not in provenance.versions(tmp_path)
    git("init", "--quiet")
    assert "git" not in provenance.versions(tmp_path)  # there is no commit yet
    git("commit", "--quiet", "--allow-empty", "--message", "first")
    commit = git("rev-parse", "HEAD")
    assert provenance.versions(tmp_path)["git"] == commit

    train(dataclasses.replace(SMALL, epochs=1), few_digits, tmp_path / "run")
    train(SMALL, few_digits, tmp_path / "run", resume=True)  # the run itself is not committed

    assert read_config(tmp_path / "run").versions["git"] == f"{commit}, {commit}-dirty"


def test_figures_for_tensorboard(few_digits: Dataset, tmp_path: Path) -> None:
    """Of a resumed run, too, whose epochs since the checkpoint are trained again."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with TensorBoard(tmp_path / "run") as board, pytest.raises(Killed):
        train(SMALL, few_digits, tmp_path / "run", listeners=[board, Killer(13)])
    with TensorBoard(tmp_path / "run") as board:
        train(SMALL, few_digits, tmp_path / "run", resume=True, listeners=[board])

    events = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()

    lines = metrics(tmp_path / "run")
    for tag, name in (
        ("validation/negative_elbo_nats", "validation_negative_elbo_nats"),
        ("train/kl_nats", "train_kl_nats"),
        ("run/beta_now", "beta_now"),
    ):
        shown = [(event.step, event.value) for event in events.Scalars(tag)]
        assert shown == [(line["epoch"], pytest.approx(line[name], rel=1e-6)) for line in lines]


def test_without_tensorboard_its_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(TrainError, match=r"pip install 'vaeserve\[tensorboard\]'"):
        TensorBoard(tmp_path)
