"""Training learns, stops, resumes bit for bit, and says in one line why it cannot go on."""

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from vaeserve_export.data.dataset import Dataset, split
from vaeserve_export.errors import RunError, TrainError
from vaeserve_export.training import (
    loss,
    provenance,
    run as run_folder,
    saving,
    validation,
)
from vaeserve_export.training.checkpoint import seeds
from vaeserve_export.training.records import EpochRecord
from vaeserve_export.training.rows import prepare
from vaeserve_export.training.run import load_model, read_config, read_summary
from vaeserve_export.training.settings import TrainSettings
from vaeserve_export.training.tensorboard import TensorBoard
from vaeserve_export.training.train import train
from vaeserve_export.vae.likelihood import Likelihood
from vaeserve_export.vae.model import Vae
from vaeserve_export.vae.objective import Terms, evaluate, row_terms

SMALL = TrainSettings(epochs=6, hidden=32, latent_dim=4, batch_size=64)


class Killed(Exception):
    """Stands for the process being killed."""


class Killer:
    """A listener that ends training after some steps, in the middle of an epoch."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def batch(self, epoch: int, rows_done: int) -> None:
        self.steps -= 1
        if self.steps == 0:
            raise Killed

    def epoch(self, record: EpochRecord) -> None:
        pass


def metrics(run: Path) -> list[dict[str, Any]]:
    lines = (run / run_folder.METRICS).read_text().splitlines()
    return [json.loads(line) for line in lines]


def files(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.iterdir()}


def sigma(run: Path, data: Dataset) -> float:
    """Median posterior standard deviation."""
    _, log_var = load_model(run).encoder(torch.from_numpy(data.x))
    return float((0.5 * log_var).exp().median().detach())


def test_training_improves_the_bound(digits: Dataset, tmp_path: Path) -> None:
    """A mean instead of a sum, in either term, ends far from here: see the two tests below."""
    summary = train(dataclasses.replace(SMALL, epochs=25), digits, tmp_path / "run")

    first, last = metrics(tmp_path / "run")[0], metrics(tmp_path / "run")[-1]
    assert first["validation_negative_elbo_nats"] > 33
    assert last["validation_negative_elbo_nats"] < 29
    assert summary.negative_elbo_nats < 29
    assert 0.5 < summary.kl_nats < 10
    assert summary.active_units >= 1
    assert (summary.train_rows, summary.validation_rows) == (1618, 179)
    parts = summary.reconstruction_nats + summary.kl_nats
    assert summary.negative_elbo_nats == pytest.approx(parts)


def test_beta_zero_is_an_autoencoder(digits: Dataset, tmp_path: Path) -> None:
    """Without the KL, sigma shrinks and the codes scatter: better pictures, a far worse bound."""
    settings = dataclasses.replace(SMALL, epochs=25)
    with_kl = train(settings, digits, tmp_path / "vae")
    without = train(dataclasses.replace(settings, beta=0.0), digits, tmp_path / "plain")

    assert without.kl_nats > 5 * with_kl.kl_nats
    assert without.reconstruction_nats < with_kl.reconstruction_nats
    assert without.negative_elbo_nats > with_kl.negative_elbo_nats + 5
    assert sigma(tmp_path / "plain", digits) < 0.2 * sigma(tmp_path / "vae", digits)


def test_a_mean_over_the_pixels_would_show(digits: Dataset, tmp_path: Path) -> None:
    """The same as a KL weighted by the 64 pixels: the posterior collapses onto the prior."""
    collapsed = train(dataclasses.replace(SMALL, epochs=25, beta=64.0), digits, tmp_path / "run")
    assert collapsed.kl_nats < 0.5
    assert collapsed.active_units == 0


def test_figures_of_every_epoch(few_digits: Dataset, tmp_path: Path) -> None:
    settings = dataclasses.replace(SMALL, beta=0.5, kl_warmup_epochs=4)
    train(settings, few_digits, tmp_path / "run")

    records = metrics(tmp_path / "run")
    assert [record["epoch"] for record in records] == [1, 2, 3, 4, 5, 6]
    assert [record["beta_now"] for record in records] == [0.125, 0.25, 0.375, 0.5, 0.5, 0.5]
    assert [record["step"] for record in records] == [3, 6, 9, 12, 15, 18]
    for record in records:
        for part in ("train", "validation"):
            reconstruction, kl = record[f"{part}_reconstruction_nats"], record[f"{part}_kl_nats"]
            assert record[f"{part}_negative_elbo_nats"] == pytest.approx(reconstruction + kl)
        # The weight grows from step to step, and is below beta_now in the steps before the last.
        kl_in_loss = record["train_loss"] - record["train_reconstruction_nats"]
        growing = record["epoch"] <= 4
        below = kl_in_loss < record["beta_now"] * record["train_kl_nats"] * (1 - 1e-3)
        assert below == growing
        compared = record["validation_reconstruction_nats"] + 0.5 * record["validation_kl_nats"]
        assert record["validation_loss"] == pytest.approx(compared)  # at full beta in any epoch


def test_train_figures_weight_rows_not_batches(
    few_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """180 rows in batches of 64, 64 and 52."""
    seen: list[Terms] = []

    def recorded(vae: Vae, x: Tensor, eps: Tensor) -> Terms:
        seen.append(row_terms(vae, x, eps))
        return seen[-1]

    monkeypatch.setattr(loss, "row_terms", recorded)
    train(dataclasses.replace(SMALL, epochs=1), few_digits, tmp_path / "run")

    assert [len(terms.kl) for terms in seen] == [64, 64, 52]
    [line] = metrics(tmp_path / "run")
    rows = [torch.cat(column).detach().double() for column in zip(*seen, strict=True)]
    assert line["train_reconstruction_nats"] == pytest.approx(float(rows[0].mean()), rel=1e-6)
    assert line["train_kl_nats"] == pytest.approx(float(rows[1].mean()), rel=1e-6)
    batches = sum(float(terms.reconstruction.detach().mean()) for terms in seen) / 3
    assert line["train_reconstruction_nats"] != pytest.approx(batches, rel=1e-6)


def test_binarised_rows_are_drawn_anew_each_epoch(
    few_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One batch an epoch; sorted, because every epoch has another order."""
    trained: list[Tensor] = []
    validated: list[Tensor] = []

    def recorded(vae: Vae, x: Tensor, eps: Tensor) -> Terms:
        trained.append(x)
        return row_terms(vae, x, eps)

    def recorded_evaluation(vae: Vae, x: Tensor, eps: Tensor) -> Terms:
        validated.append(x)
        return evaluate(vae, x, eps)

    monkeypatch.setattr(loss, "row_terms", recorded)
    monkeypatch.setattr(validation, "evaluate", recorded_evaluation)
    settings = dataclasses.replace(SMALL, epochs=3, batch_size=180, binarise=True)
    train(settings, few_digits, tmp_path / "run")

    assert len(trained) == 3
    assert all(set(x.flatten().tolist()) == {0, 1} for x in (*trained, *validated))
    assert len({tuple(sorted(x.flatten(1).sum(1).tolist())) for x in trained}) == 3
    assert len(validated) == 4  # an epoch each, and the best weights at the end
    assert all(torch.equal(x, validated[0]) for x in validated)


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


def test_the_seed_decides_everything(few_digits: Dataset, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(dataclasses.replace(SMALL, seed=seed, epochs=2), few_digits, tmp_path / name)
    weights = [(tmp_path / name / run_folder.WEIGHTS).read_bytes() for name in "abc"]
    assert weights[0] == weights[1] != weights[2]


def test_early_stopping_keeps_the_best_weights(few_digits: Dataset, tmp_path: Path) -> None:
    """So high a learning rate on so few rows overfits soon."""
    settings = dataclasses.replace(SMALL, epochs=500, learning_rate=0.02, patience=5)
    summary = train(settings, few_digits, tmp_path / "run")

    assert summary.epochs_run == summary.epochs + 5 < 500
    figures = [record["validation_negative_elbo_nats"] for record in metrics(tmp_path / "run")]
    assert min(figures) == figures[summary.epochs - 1]
    assert summary.negative_elbo_nats == pytest.approx(min(figures), rel=1e-6)
    assert read_summary(tmp_path / "run") == summary


def test_patience_starts_after_the_warm_up(few_digits: Dataset, tmp_path: Path) -> None:
    settings = dataclasses.replace(
        SMALL, epochs=40, learning_rate=0.02, patience=1, kl_warmup_epochs=30
    )
    assert train(settings, few_digits, tmp_path / "run").epochs_run > 30


def test_loaded_model_gives_the_summary_again(few_digits: Dataset, tmp_path: Path) -> None:
    """The validation rows and their noise are a matter of the seed."""
    summary = train(SMALL, few_digits, tmp_path / "run")
    vae = load_model(tmp_path / "run")
    assert not vae.training
    _, rows = prepare(SMALL, few_digits, seeds(0, ("init", "validation"))["validation"])
    terms = evaluate(vae, rows.x, rows.eps)
    assert summary.kl_nats == pytest.approx(float(terms.kl.mean()), rel=1e-5)


def test_vectors_train_with_a_gaussian(vectors: Dataset, tmp_path: Path) -> None:
    settings = dataclasses.replace(SMALL, likelihood="gaussian", gaussian_variance=1.0, epochs=30)
    summary = train(settings, vectors, tmp_path / "run")
    # Nothing is to be gained over the data's own entropy of 0.5 log(2 pi e) nats an element.
    assert summary.negative_elbo_nats == pytest.approx(5 * 1.42, abs=3)


@pytest.mark.parametrize("model", ["ae", "conv-ae"])
def test_the_plain_autoencoder(few_digits: Dataset, tmp_path: Path, model: str) -> None:
    """No noise and no KL in what is optimised; both terms are logged all the same."""
    settings = dataclasses.replace(SMALL, model=model, epochs=8)
    summary = train(settings, few_digits, tmp_path / "run")

    lines = metrics(tmp_path / "run")
    assert read_config(tmp_path / "run").settings.beta == 0
    assert {line["beta_now"] for line in lines} == {0}
    for line in lines:
        assert line["train_loss"] == pytest.approx(line["train_reconstruction_nats"])
        assert line["validation_loss"] == pytest.approx(line["validation_reconstruction_nats"])
        assert line["validation_kl_nats"] > 5 * 4  # next to a point in each dimension
    assert lines[-1]["train_loss"] < lines[0]["train_loss"]
    vae = load_model(tmp_path / "run")
    _, held_out = prepare(settings, few_digits, seeds(0, ("init", "validation"))["validation"])
    raw = vae.decoder.raw(vae.encoder(held_out.x)[0])
    nats = vae.likelihood.nats(raw, held_out.x).mean().item()
    assert summary.reconstruction_nats == pytest.approx(nats, rel=1e-5)


def test_a_learned_variance_finds_that_of_the_data(tmp_path: Path) -> None:
    """Rows of noise of variance 0.04, in which the latents can find nothing."""
    x = 0.2 * np.random.default_rng(0).normal(size=(2000, 5)).astype(np.float32)
    data = Dataset(x, None, level=None, name="noise")
    settings = dataclasses.replace(
        SMALL, likelihood="gaussian", learn_variance=True, learning_rate=0.01, epochs=15
    )
    train(settings, data, tmp_path / "run")
    assert load_model(tmp_path / "run").likelihood.variance == pytest.approx(0.04, rel=0.1)
    variances = [line["gaussian_variance"] for line in metrics(tmp_path / "run")]
    assert variances[-1] == pytest.approx(0.04, rel=0.1)
    assert variances[0] > variances[-1]


def test_l2_is_a_gaussian_of_variance_one_half(few_digits: Dataset, tmp_path: Path) -> None:
    l2 = dataclasses.replace(SMALL, likelihood="l2", epochs=1)
    gaussian = dataclasses.replace(l2, likelihood="gaussian", gaussian_variance=0.5)
    summaries = [
        train(settings, few_digits, tmp_path / settings.likelihood) for settings in (l2, gaussian)
    ]
    assert summaries[0].reconstruction_nats == summaries[1].reconstruction_nats
    assert load_model(tmp_path / "l2").likelihood == Likelihood("gaussian", 0.5)


def test_continuous_bernoulli_trains(few_digits: Dataset, tmp_path: Path) -> None:
    settings = dataclasses.replace(SMALL, likelihood="continuous-bernoulli")
    train(settings, few_digits, tmp_path / "run")
    lines = metrics(tmp_path / "run")
    assert lines[-1]["validation_loss"] < lines[0]["validation_loss"] - 1
    assert lines[-1]["validation_reconstruction_nats"] < 0  # a density, unlike the Bernoulli's


def test_free_bits_keep_dimensions_in_use(digits: Dataset, tmp_path: Path) -> None:
    """Under a KL that is too heavy for the others."""
    settings = dataclasses.replace(SMALL, beta=20.0, epochs=8)
    train(settings, digits, tmp_path / "without")
    train(dataclasses.replace(settings, free_bits=0.5), digits, tmp_path / "with")
    without, with_them = (metrics(tmp_path / name)[-1] for name in ("without", "with"))
    assert without["active_units"] == 0
    assert with_them["active_units"] == 4
    assert with_them["validation_kl_nats"] > without["validation_kl_nats"] + 1


MUON = dataclasses.replace(
    SMALL, layers=2, activation="gated", optimiser="muon", schedule="cosine", learning_rate=0.02
)


def test_muon_with_a_cosine_learns(digits: Dataset, tmp_path: Path) -> None:
    settings = dataclasses.replace(MUON, epochs=15, precision="bfloat16")
    assert train(settings, digits, tmp_path / "run").negative_elbo_nats < 28
    rates = [line["learning_rate"] for line in metrics(tmp_path / "run")]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] < 0.02
    assert rates[-1] == 0
    factors = 1 + 2**-12 * torch.ones(64, 64)  # which bfloat16 cannot hold
    assert (factors @ factors)[0, 0].item() == pytest.approx(64 * (1 + 2**-12) ** 2, rel=1e-6)


@pytest.mark.parametrize("model", ["mlp", "conv"])
def test_rounded_factors_train_as_well(few_digits: Dataset, tmp_path: Path, model: str) -> None:
    """Many steps an epoch: each must see the weights that the one before has left."""
    settings = dataclasses.replace(SMALL, model=model, batch_size=8, epochs=3)
    exact = train(settings, few_digits, tmp_path / "exact")
    rounded = train(
        dataclasses.replace(settings, precision="bfloat16"), few_digits, tmp_path / "rounded"
    )
    assert rounded.negative_elbo_nats == pytest.approx(exact.negative_elbo_nats, rel=0.01)


def test_no_pickle(few_digits: Dataset, tmp_path: Path) -> None:
    train(SMALL, few_digits, tmp_path / "run")
    assert {path.suffix for path in (tmp_path / "run").iterdir()} == {
        ".json",
        ".jsonl",
        ".npz",
        ".safetensors",
    }


def test_bernoulli_refuses_values_outside_its_range(vectors: Dataset, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="use likelihood gaussian"):
        train(SMALL, vectors, tmp_path / "run")
    assert not (tmp_path / "run").exists()


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
