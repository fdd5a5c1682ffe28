"""A run stops, goes on bit for bit, and says in one line why it cannot."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from unit.export.training_runs import SMALL, Killed, Killer, files, metrics
from vaeserve_export.data.dataset import Dataset
from vaeserve_export.errors import RunError, TrainError
from vaeserve_export.training import (
    loss,
    run as run_folder,
    saving,
)
from vaeserve_export.training.records import EpochRecord
from vaeserve_export.training.run import load_model, read_config, read_summary
from vaeserve_export.training.train import train
from vaeserve_export.vae.model import Vae
from vaeserve_export.vae.objective import Terms, row_terms


@pytest.mark.parametrize("steps", [2, 8, 10, 13])
@pytest.mark.parametrize("change", [{}, {"binarise": True}, {"optimiser": "muon"}])
def test_resumed_run_ends_in_the_same_bits(
    few_digits: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    steps: int,
    change: dict[str, Any],
) -> None:
    """Killed in the middle of an epoch (of three steps), with a checkpoint of the step before."""
    monkeypatch.setattr(saving, "CHECKPOINT_SECONDS", 0.0)
    settings = dataclasses.replace(SMALL, kl_warmup_epochs=3, **change)
    train(settings, few_digits, tmp_path / "whole")
    with pytest.raises(Killed):
        train(settings, few_digits, tmp_path / "parts", listeners=[Killer(steps)])
    with (tmp_path / "parts" / run_folder.METRICS).open("a") as file:
        file.write('{"epoch": 99, "half a li')

    train(settings, few_digits, tmp_path / "parts", resume=True)

    whole, parts = files(tmp_path / "whole"), files(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    for name in (run_folder.WEIGHTS, "calibration.npz", run_folder.CONFIG):
        assert whole[name] == parts[name], name
    states = [safetensors.torch.load(run[run_folder.CHECKPOINT]) for run in (whole, parts)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    lines = [metrics(tmp_path / name) for name in ("whole", "parts")]
    for before, after in zip(*lines, strict=True):
        times = {"seconds": 0, "cpu_seconds": 0}
        assert before | times == after | times


@pytest.mark.parametrize("steps", [1, 3, 5, 6])
def test_a_run_that_was_asked_to_stop_goes_on_in_the_same_bits(
    few_digits: Dataset, tmp_path: Path, steps: int
) -> None:
    """After any step, the last of an epoch, too, of which no figures are written yet."""
    train(SMALL, few_digits, tmp_path / "whole")
    wishes = iter([False] * (steps - 1) + [True])
    with pytest.raises(saving.Stopped):
        train(SMALL, few_digits, tmp_path / "parts", stop=lambda: next(wishes))
    assert len(metrics(tmp_path / "parts")) == (steps - 1) // 3

    train(SMALL, few_digits, tmp_path / "parts", resume=True)

    whole, parts = files(tmp_path / "whole"), files(tmp_path / "parts")
    assert whole[run_folder.WEIGHTS] == parts[run_folder.WEIGHTS]
    lines = [metrics(tmp_path / name) for name in ("whole", "parts")]
    for before, after in zip(*lines, strict=True):
        times = {"seconds": 0, "cpu_seconds": 0}
        assert before | times == after | times


def test_checkpoints_are_not_written_every_moment(few_digits: Dataset, tmp_path: Path) -> None:
    """The first epoch's is there at once; a kill soon after loses the epochs since."""
    with pytest.raises(Killed):
        train(SMALL, few_digits, tmp_path / "run", listeners=[Killer(13)])
    assert (tmp_path / "run" / run_folder.CHECKPOINT).exists()
    assert train(SMALL, few_digits, tmp_path / "run", resume=True).epochs_run == 6


def test_more_epochs_later_are_the_same_as_at_once(few_digits: Dataset, tmp_path: Path) -> None:
    train(SMALL, few_digits, tmp_path / "once")
    train(dataclasses.replace(SMALL, epochs=2), few_digits, tmp_path / "twice")
    train(SMALL, few_digits, tmp_path / "twice", resume=True)
    once, twice = files(tmp_path / "once"), files(tmp_path / "twice")
    assert once[run_folder.WEIGHTS] == twice[run_folder.WEIGHTS]


def test_resuming_a_finished_run_changes_nothing(few_digits: Dataset, tmp_path: Path) -> None:
    first = train(SMALL, few_digits, tmp_path / "run")
    before = files(tmp_path / "run")
    assert train(SMALL, few_digits, tmp_path / "run", resume=True).epochs == first.epochs
    assert files(tmp_path / "run")[run_folder.WEIGHTS] == before[run_folder.WEIGHTS]


def test_a_loss_that_is_not_finite_stops_the_run(few_digits: Dataset, tmp_path: Path) -> None:
    settings = dataclasses.replace(SMALL, learning_rate=1e30)
    with pytest.raises(TrainError, match=r"epoch 1: the learning rate 1e\+30 is most likely"):
        train(settings, few_digits, tmp_path / "run")
    with pytest.raises(RunError, match="has not finished"):
        load_model(tmp_path / "run")


def test_the_last_good_checkpoint_is_kept(few_digits: Dataset, tmp_path: Path) -> None:
    """The loss breaks in the second epoch; what the first one wrote is still there, and finite."""

    class Poison(Killer):
        def epoch(self, record: EpochRecord) -> None:
            monkeypatch.setattr(loss, "row_terms", broken)

    def broken(vae: Vae, x: Tensor, eps: Tensor) -> Terms:
        return Terms(*(math.nan * term for term in row_terms(vae, x, eps)))

    with pytest.MonkeyPatch.context() as monkeypatch, pytest.raises(TrainError, match="epoch 2"):
        train(SMALL, few_digits, tmp_path / "run", listeners=[Poison(99)])
    tensors = safetensors.torch.load((tmp_path / "run" / run_folder.CHECKPOINT).read_bytes())
    assert all(torch.isfinite(value).all() for value in tensors.values())
    assert train(SMALL, few_digits, tmp_path / "run", resume=True).epochs_run == 6


def test_a_folder_with_a_run_is_refused(few_digits: Dataset, tmp_path: Path) -> None:
    train(SMALL, few_digits, tmp_path / "run")
    before = files(tmp_path / "run")
    with pytest.raises(RunError, match="already holds a run; continue it with --resume"):
        train(SMALL, few_digits, tmp_path / "run")
    assert files(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent_dim": 5}, "was started with latent_dim 4, not 5"),
        ({"beta": 2.0}, "was started with beta 1.0, not 2.0"),
        ({"seed": 1}, "was started with seed 0, not 1"),
    ],
)
def test_resuming_with_other_settings_is_refused(
    few_digits: Dataset, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    train(SMALL, few_digits, tmp_path / "run")
    with pytest.raises(RunError, match=message):
        train(dataclasses.replace(SMALL, **change), few_digits, tmp_path / "run", resume=True)


def test_resuming_with_other_data_is_refused(few_digits: Dataset, tmp_path: Path) -> None:
    train(SMALL, few_digits, tmp_path / "run")
    other = Dataset(few_digits.x[::-1].copy(), None, level=1 / 255, name="others")
    with pytest.raises(RunError, match=r"other data \(few digits\), not others"):
        train(SMALL, other, tmp_path / "run", resume=True)


def test_resuming_nothing_is_refused(few_digits: Dataset, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        train(SMALL, few_digits, tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (run_folder.CHECKPOINT, "cannot be resumed from"),
        (run_folder.CONFIG, "cannot be read"),
    ],
)
def test_a_damaged_run_is_refused(
    few_digits: Dataset, tmp_path: Path, file: str, message: str
) -> None:
    train(SMALL, few_digits, tmp_path / "run")
    (tmp_path / "run" / file).write_bytes(b"damaged")
    with pytest.raises(RunError, match=message):
        train(SMALL, few_digits, tmp_path / "run", resume=True)


def test_a_run_without_metrics_is_refused(few_digits: Dataset, tmp_path: Path) -> None:
    train(SMALL, few_digits, tmp_path / "run")
    (tmp_path / "run" / run_folder.METRICS).unlink()
    with pytest.raises(RunError, match=r"metrics\.jsonl: cannot be read"):
        train(SMALL, few_digits, tmp_path / "run", resume=True)


@pytest.mark.parametrize("file", [run_folder.CONFIG, run_folder.SUMMARY])
@pytest.mark.parametrize("content", ["null", "[]", '{"other": 1}'])
def test_json_of_another_kind_is_refused(
    few_digits: Dataset, tmp_path: Path, file: str, content: str
) -> None:
    train(SMALL, few_digits, tmp_path / "run")
    (tmp_path / "run" / file).write_text(content)
    with pytest.raises(RunError, match=f"{file}: is not of this version: "):
        read_summary(tmp_path / "run")


def test_the_largest_seed_can_be_loaded(few_digits: Dataset, tmp_path: Path) -> None:
    train(dataclasses.replace(SMALL, seed=2**64 - 1, epochs=1), few_digits, tmp_path / "run")
    assert load_model(tmp_path / "run").config.latent_dim == 4


def test_a_run_that_failed_at_once_may_be_started_again(
    few_digits: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(TrainError, match="not finite"):
        train(dataclasses.replace(SMALL, learning_rate=1e30), few_digits, tmp_path / "run")
    assert train(SMALL, few_digits, tmp_path / "run").epochs_run == 6
    assert read_config(tmp_path / "run").settings == SMALL


def test_a_finished_run_without_its_checkpoint_is_still_one(
    few_digits: Dataset, tmp_path: Path
) -> None:
    train(SMALL, few_digits, tmp_path / "run")
    (tmp_path / "run" / run_folder.CHECKPOINT).unlink()
    with pytest.raises(RunError, match="already holds a run"):
        train(SMALL, few_digits, tmp_path / "run")


def test_what_a_resumed_run_changes_is_recorded(few_digits: Dataset, tmp_path: Path) -> None:
    train(SMALL, few_digits, tmp_path / "run")
    config = tmp_path / "run" / run_folder.CONFIG
    values = json.loads(config.read_text())
    values["versions"]["torch"] = "1.0"
    config.write_text(json.dumps(values))
    changed = dataclasses.replace(SMALL, epochs=8, patience=50)

    for _ in range(2):
        assert train(changed, few_digits, tmp_path / "run", resume=True).epochs_run == 8

    after = read_config(tmp_path / "run")
    assert after.settings == changed
    assert after.versions["torch"] == f"1.0, {torch.__version__}"
    assert ", " not in after.versions["python"]


def test_damaged_weights_are_refused(few_digits: Dataset, tmp_path: Path) -> None:
    train(SMALL, few_digits, tmp_path / "run")
    (tmp_path / "run" / run_folder.WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(RunError, match="cannot be loaded"):
        load_model(tmp_path / "run")
