"""Training learns what its settings ask for."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from unit.export.training_runs import SMALL, metrics, sigma
from vaeserve_export.data.dataset import Dataset
from vaeserve_export.errors import TrainError
from vaeserve_export.training import (
    loss,
    optimisers,
    run as run_folder,
    validation,
)
from vaeserve_export.training.checkpoint import seeds
from vaeserve_export.training.rows import prepare
from vaeserve_export.training.run import load_model, read_config, read_summary
from vaeserve_export.training.train import train
from vaeserve_export.vae.likelihood import Likelihood
from vaeserve_export.vae.model import Vae
from vaeserve_export.vae.objective import Terms, evaluate, row_terms


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
    assert 0 < rates[-1] < 1e-5
    factors = 1 + 2**-12 * torch.ones(64, 64)  # which bfloat16 cannot hold
    assert (factors @ factors)[0, 0].item() == pytest.approx(64 * (1 + 2**-12) ** 2, rel=1e-6)


def test_the_learning_rate_is_that_of_the_last_step(
    few_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    step = optimisers.step

    def watched(given: list[torch.optim.Optimizer]) -> None:
        rates.append(given[0].param_groups[0]["lr"])
        step(given)

    monkeypatch.setattr(optimisers, "step", watched)
    settings = dataclasses.replace(MUON, epochs=4, batch_size=50)
    train(settings, few_digits, tmp_path / "run")
    steps = len(rates) // 4
    logged = [line["learning_rate"] for line in metrics(tmp_path / "run")]
    assert logged == pytest.approx(rates[steps - 1 :: steps])


@pytest.mark.parametrize("model", ["mlp", "conv"])
def test_rounded_factors_train_as_well(few_digits: Dataset, tmp_path: Path, model: str) -> None:
    """Many steps an epoch: each must see the weights that the one before has left."""
    settings = dataclasses.replace(SMALL, model=model, batch_size=8, epochs=3)
    exact = train(settings, few_digits, tmp_path / "exact")
    rounded = train(
        dataclasses.replace(settings, precision="bfloat16"), few_digits, tmp_path / "rounded"
    )
    assert rounded.negative_elbo_nats == pytest.approx(exact.negative_elbo_nats, rel=0.01)


def test_bernoulli_refuses_values_outside_its_range(vectors: Dataset, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="use likelihood gaussian"):
        train(SMALL, vectors, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_so_it_does_of_rows_that_only_validate(few_digits: Dataset, tmp_path: Path) -> None:
    held_out = few_digits.x[:20].copy()
    held_out[0, 0, 0, 0], held_out[1, 0, 0, 0] = 1.75, -3
    outside = dataclasses.replace(few_digits, validation=Dataset(held_out, None, None, "held out"))
    with pytest.raises(TrainError, match=r"its rows for validation have -3 to 1\.75; use likel"):
        train(SMALL, outside, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train(
        dataclasses.replace(SMALL, likelihood="gaussian", epochs=1), outside, tmp_path / "gaussian"
    )
