"""What is planted is named: nets trained with wrong losses on digits, and sound ones."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from vaeserve_export.data.dataset import Dataset, training_rows
from vaeserve_export.evaluation.evidence import ROWS, Evidence, Rows, gather
from vaeserve_export.evaluation.fault import NAMES
from vaeserve_export.evaluation.faults import find_faults
from vaeserve_export.evaluation.loss_scale import kl_weight, worthwhile_weight
from vaeserve_export.trained.of_run import RunSubject
from vaeserve_export.trained.subject import Origin
from vaeserve_export.training.loss import Loss
from vaeserve_export.training.settings import TrainSettings
from vaeserve_export.training.train import train
from vaeserve_export.vae.likelihood import Likelihood
from vaeserve_export.vae.objective import kl_by_dimension, row_terms

LATENT_DIM, PIXELS = 12, 64
SOUND = TrainSettings(
    hidden=64,
    latent_dim=LATENT_DIM,
    epochs=40,
    learning_rate=5e-3,
    schedule="cosine",
    threads=1,
    device="cpu",
)

Examine = Callable[..., Evidence]


@pytest.fixture
def examine(digits: Dataset, tmp_path: Path) -> Examine:
    """Train with some settings, let the run claim a beta, and gather the evidence."""

    def run(data: Dataset = digits, claimed: float | None = None, **changes: object) -> Evidence:
        chosen = dataclasses.replace(SOUND, **changes)  # type: ignore[arg-type]
        folder = tmp_path / "run"
        train(chosen, data, folder)
        if claimed is not None:
            config = json.loads((folder / "config.json").read_text())
            config["settings"]["beta"] = claimed
            (folder / "config.json").write_text(json.dumps(config))
        parts = [Rows(p, torch.from_numpy(p.x[:ROWS]), True) for p in training_rows(data, 0)]
        return gather(RunSubject(folder), *parts)

    return run


def named(evidence: Evidence) -> list[str]:
    faults = find_faults(evidence)
    for fault in faults:
        assert fault.name in NAMES
        assert fault.evidence
        assert fault.cause
        assert fault.remedy
    return [fault.name for fault in faults]


@pytest.mark.parametrize(
    ("beta", "name"),
    [
        (1 / LATENT_DIM, "kl_averaged"),  # the mean over latents
        (PIXELS, "reconstruction_averaged"),  # the mean over pixels
        (0, "plain_autoencoder"),
    ],
)
def test_a_broken_loss_is_named_though_the_run_claims_beta_1(
    examine: Examine, beta: float, name: str
) -> None:
    evidence = examine(beta=beta, claimed=1.0)
    assert evidence.beta == 1
    assert named(evidence) == [name]
    assert named(dataclasses.replace(evidence, history=())) == [name]  # by the model alone
    text = " ".join(find_faults(evidence)[0].evidence)
    assert "the recorded beta is 1" in text
    assert f"{evidence.validation.statistics.active_units} of {LATENT_DIM}" in text


class Averaged(Loss):
    """The most copied bug itself: the mean over pixels beside a summed KL."""

    def forward(self, x: Tensor, eps: Tensor, weight: float, rows: int) -> tuple[Tensor, Tensor]:
        terms = row_terms(self.vae, x, eps)
        reconstruction, kl = terms.reconstruction.sum(), terms.kl.sum()
        loss = (reconstruction / PIXELS + weight * kl) / rows
        return loss, torch.stack([reconstruction, kl, loss * rows]).detach()


def test_a_mean_over_pixels_in_the_code_is_named(
    examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaeserve_export.training.train.Loss", Averaged)
    evidence = examine()
    assert named(evidence) == ["reconstruction_averaged"]
    # A model of which nothing is recorded is judged by what it does.
    assert named(dataclasses.replace(evidence, history=(), beta=None)) == [
        "reconstruction_averaged"
    ]


@pytest.mark.parametrize("seed", range(5))
def test_a_sound_net_raises_no_alarm(examine: Examine, seed: int) -> None:
    evidence = examine(seed=seed)
    assert named(evidence) == []
    assert evidence.kl_weight is not None
    assert evidence.kl_weight.value == pytest.approx(1, abs=0.15)
    assert len(evidence.history) == SOUND.epochs


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"model": "ae"}, ["plain_autoencoder"]),
        ({"beta": 10}, ["posterior_collapse"]),  # more than digits repay, and meant
        ({"learning_rate": 0.3}, ["posterior_collapse"]),  # the loss is right, units died
        ({"beta": 0.5}, []),  # meant, as recorded
        ({"free_bits": 0.2}, []),
        ({"free_bits": 1.0}, []),  # every dimension is held at its floor
        ({"free_bits": 2.0}, []),
        ({"likelihood": "gaussian", "gaussian_variance": 0.05}, []),
        ({"likelihood": "gaussian", "gaussian_variance": 5.0}, ["posterior_collapse"]),
        ({"likelihood": "gaussian", "gaussian_variance": 1e-5}, ["log_var_clamped"]),
        ({"model": "conv", "epochs": 12}, []),
        ({"kl_warmup_epochs": 160}, ["kl_underweighted"]),  # ends in the middle of the warm-up
        ({"epochs": 2}, ["untrained"]),
        ({"likelihood": "gaussian", "gaussian_variance": 0.003, "beta": 15}, ["kl_overweighted"]),
    ],
    ids=str,
)
def test_other_settings(examine: Examine, changes: dict[str, object], names: list[str]) -> None:
    assert named(examine(**changes)) == names


def test_overfitting(examine: Examine, digits: Dataset) -> None:
    few = digits.take(np.arange(200))
    others = digits.take(np.arange(200, 1797))
    data = dataclasses.replace(few, validation=others)
    evidence = examine(data, likelihood="gaussian", gaussian_variance=0.01, epochs=150, hidden=128)
    assert named(evidence) == ["overfitting"]
    gap = evidence.train.gain_nats - evidence.validation.gain_nats
    assert gap > 0.05 * evidence.train.gain_nats


class LinearGaussian:
    """x = W z + noise, with the posterior that is best at some KL weight; a Subject.

    With orthogonal columns of lengths w and variance v, sigma_j^2 = 1 / (1 + w_j^2 / (v weight)).
    """

    def __init__(self, weight: float, lengths: list[float], variance: float) -> None:
        self.origin = Origin(folder=Path(), name="linear", data_sha256="", beta=None, columns=())
        self.likelihood = Likelihood("gaussian", variance)
        self.latent_dim = len(lengths)
        self.input_shape: tuple[int, ...] = (6,)
        self.columns = torch.eye(6)[: self.latent_dim] * torch.tensor(lengths)[:, None]
        gain = torch.tensor(lengths) ** 2 / (variance * weight)
        self.sigma2 = 1 / (1 + gain)
        self.encoder = self.sigma2 / (variance * weight) * self.columns.T

    def rows(self, count: int) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        z = torch.randn(count, self.latent_dim, generator=generator)
        noise = torch.randn(count, 6, generator=generator)
        rows: Tensor = z @ self.columns + self.likelihood.variance**0.5 * noise
        return rows

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu = x @ self.encoder
        return mu, self.sigma2.log().expand_as(mu)

    def decode(self, z: Tensor) -> Tensor:
        return z @ self.columns

    def reconstruction_nats(self, x: Tensor, z: Tensor) -> Tensor:
        draws = z.shape[1]
        raw = self.decode(z.flatten(0, 1))
        return self.likelihood.nats(raw, x.repeat_interleave(draws, 0)).view(-1, draws)


@settings(max_examples=30, deadline=None)
@given(
    weight=st.floats(0.05, 20),
    lengths=st.lists(st.floats(1, 5), min_size=1, max_size=4),
    variance=st.floats(0.05, 0.5),
)
def test_the_weight_of_a_model_that_is_solved_exactly(
    weight: float, lengths: list[float], variance: float
) -> None:
    subject = LinearGaussian(weight, lengths, variance)
    measured = kl_weight(subject, subject.rows(2000))
    if measured is None:  # so heavy a KL that nothing is left to weigh
        assert subject.sigma2.min() > 0.8
        return
    assert measured.value == pytest.approx(weight, rel=0.02, abs=5 * measured.error)
    assert not measured.at_most


def test_the_weight_that_pays_is_that_of_probabilistic_pca() -> None:
    subject = LinearGaussian(1.0, [3.0, 1.0], variance=0.5)
    # The largest variance along a direction, 9 + 0.5, in units of the noise's.
    assert worthwhile_weight(subject, subject.rows(4000)) == pytest.approx(19, rel=0.1)


def test_what_free_bits_hold_is_not_weighed() -> None:
    """Lengths of 2 and 5: KL of about 1.2 and 2.0 nats."""
    subject = LinearGaussian(1.0, [2.0, 5.0], variance=0.4)
    rows = subject.rows(4000)
    mu, log_var = subject.encode(rows)
    held, paid = kl_by_dimension(mu, log_var).mean(0).tolist()
    assert 1 < held < paid / 1.5
    subject.sigma2[0] *= 0.5  # no longer what is best at a weight of 1
    wrong, right = (kl_weight(subject, rows, free_bits=free_bits) for free_bits in (0, 1.1 * held))
    assert wrong is not None
    assert wrong.value < 0.8
    assert right is not None
    assert right.value == pytest.approx(1, abs=5 * right.error)
    assert kl_weight(subject, rows, free_bits=paid) is None


def test_free_bits_hide_no_broken_loss(examine: Examine) -> None:
    evidence = examine(beta=1 / LATENT_DIM, free_bits=0.2, claimed=1.0)
    assert named(evidence) == ["kl_averaged"]


@pytest.mark.parametrize("likelihood", ["bernoulli", "continuous-bernoulli", "gaussian"])
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_no_latent_pays_where_nothing_varies(likelihood: str, level: float) -> None:
    subject = LinearGaussian(1.0, [1.0], variance=0.5)
    subject.likelihood = Likelihood(likelihood, 0.5)
    assert worthwhile_weight(subject, torch.full((50, 6), level)) == 0


def test_what_is_not_a_number_names_nothing() -> None:
    subject = LinearGaussian(1.0, [3.0, 1.0], variance=0.5)
    data = Dataset(np.zeros((1, 6), np.float32), None, level=None, name="unused")
    seen, unseen = torch.split(subject.rows(1000), 500)
    evidence = gather(subject, Rows(data, seen, False), Rows(data, unseen, True))
    assert named(evidence) == []
    unknown = dataclasses.replace(evidence.validation, gain_error=math.nan)
    assert named(dataclasses.replace(evidence, validation=unknown)) == []
    gained = dataclasses.replace(unknown, gain_nats=math.nan)
    assert named(dataclasses.replace(evidence, validation=gained)) == []


def test_a_diverged_model_is_named() -> None:
    subject = LinearGaussian(1.0, [3.0, 1.0], variance=0.5)
    data = Dataset(np.zeros((1, 6), np.float32), None, level=None, name="unused")
    part = Rows(data, subject.rows(500), True)
    subject.columns = subject.columns * math.nan
    assert named(gather(subject, part, part)) == ["untrained"]


def test_log_var_beyond_the_range_of_our_own_encoders() -> None:
    """Another's encoder need not hold it."""
    subject = LinearGaussian(1.0, [1e4], variance=0.5)
    assert subject.sigma2.log().item() < -18
    data = Dataset(np.zeros((1, 6), np.float32), None, level=None, name="unused")
    part = Rows(data, subject.rows(500), True)
    (fault,) = find_faults(gather(subject, part, part))
    assert fault.name == "log_var_clamped"
    assert "100.0% of log_var lie at -12 or below and 0.0% at 6 or above" in fault.evidence[0]


def test_nothing_to_weigh() -> None:
    subject = LinearGaussian(1.0, [1e-3], variance=1.0)
    assert kl_weight(subject, subject.rows(100)) is None
