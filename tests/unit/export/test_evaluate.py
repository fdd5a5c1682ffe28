"""Likelihoods against the exact one, statistics against their definitions, the command."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from click.testing import Result
from torch import Tensor, nn

from vaeserve_export import export_modules
from vaeserve_export.data.dataset import load
from vaeserve_export.evaluation import likelihood as likelihood_module
from vaeserve_export.evaluation.likelihood import SAMPLES, importance_bounds
from vaeserve_export.evaluation.posterior import mutual_information, posterior_statistics
from vaeserve_export.trained.of_bundle import BundleSubject
from vaeserve_export.trained.open import open_subject
from vaeserve_export.trained.subject import Subject
from vaeserve_export.vae.likelihood import Likelihood

VARIANCE = 0.3
FEATURES, LATENT_DIM = 6, 2


class Encoder(nn.Module):
    """The exact posterior's mean, with variances that are a little too large."""

    def __init__(self, weights: Tensor, log_var: float) -> None:
        super().__init__()
        precision = torch.eye(LATENT_DIM) + weights.T @ weights / VARIANCE
        self.map = nn.Parameter(torch.linalg.solve(precision, weights.T) / VARIANCE)
        self.log_var = nn.Parameter(torch.full((LATENT_DIM,), log_var))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x @ self.map.T, self.log_var + 0 * x[:, :LATENT_DIM]


class Decoder(nn.Module):
    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, z: Tensor) -> Tensor:
        return z @ self.weights.T


class Linear(NamedTuple):
    """A bundle whose p(x) is known: x = W z + noise, so x ~ N(0, W W^T + v I)."""

    subject: Subject
    folder: Path
    x: Tensor
    exact_nats: float


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Linear:
    torch.manual_seed(0)
    weights = torch.randn(FEATURES, LATENT_DIM)
    folder = export_modules(
        Encoder(weights, -1.0),
        Decoder(weights),
        name="linear",
        repository=tmp_path_factory.mktemp("linear"),
        input_shape=(FEATURES,),
        likelihood="gaussian",
        gaussian_variance=VARIANCE,
    )
    covariance = weights @ weights.T + VARIANCE * torch.eye(FEATURES)
    density = torch.distributions.MultivariateNormal(torch.zeros(FEATURES), covariance)
    x = density.sample((100,))
    exact = -float(density.log_prob(x).mean())  # type: ignore[no-untyped-call]
    return Linear(open_subject(folder), folder, x, exact)


def test_the_bound_reaches_the_exact_likelihood(linear: Linear) -> None:
    bounds = importance_bounds(linear.subject, linear.x, 5000, seed=1)
    assert [bound.samples for bound in bounds] == list(SAMPLES)
    assert bounds[-1].nats == pytest.approx(linear.exact_nats, abs=0.05)
    nats = [bound.nats for bound in bounds]
    assert nats == sorted(nats, reverse=True)
    assert nats[0] - nats[-1] > 0.3  # or it would say little about the samples


def test_a_row_has_its_noise_whatever_the_others(linear: Linear) -> None:
    def first_row(rows: int) -> float:
        others = linear.x[1:rows] + torch.randn(rows - 1, FEATURES)
        x = torch.cat([linear.x[:1], others])
        whole = importance_bounds(linear.subject, x, 20, seed=1)[-1].nats * rows
        return whole - sum(
            # Row numbers decide the noise: each is measured in its place, behind copies of itself.
            importance_bounds(linear.subject, x[row].expand(row + 1, -1), 20, seed=1)[-1].nats
            * (row + 1)
            - importance_bounds(linear.subject, x[row].expand(row, -1), 20, seed=1)[-1].nats * row
            for row in range(1, rows)
        )

    assert first_row(3) == pytest.approx(first_row(1), abs=1e-3)
    one, two = (importance_bounds(linear.subject, linear.x[:3], 20, seed=s) for s in (1, 2))
    assert one != two


def test_how_many_draws_are_decoded_at_a_time_does_not_matter(
    linear: Linear, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = importance_bounds(linear.subject, linear.x[:3], 50)
    monkeypatch.setattr(likelihood_module, "_CHUNK_ELEMENTS", 7 * FEATURES)
    for one, other in zip(
        at_once, importance_bounds(linear.subject, linear.x[:3], 50), strict=True
    ):
        assert one.nats == pytest.approx(other.nats, abs=1e-5)


def test_one_sample_is_the_negative_elbo(linear: Linear) -> None:
    x = linear.x.repeat(20, 1)
    (bound,) = importance_bounds(linear.subject, x, 1)
    statistics = posterior_statistics(linear.subject, x)
    assert bound.nats == pytest.approx(statistics.negative_elbo_nats, abs=0.7)


def test_run_and_bundle_agree(repository: Path) -> None:
    run = open_subject(repository.parent / "runs" / "digits")
    bundle = open_subject(repository / "digits" / "1")
    x = torch.rand(40, *run.input_shape, generator=torch.Generator().manual_seed(0)).round()
    of_run = importance_bounds(run, x, 50)
    of_bundle = importance_bounds(bundle, x, 50)
    for one, other in zip(of_run, of_bundle, strict=True):
        assert one.nats == pytest.approx(other.nats, abs=1e-3)
    first, second = (posterior_statistics(subject, x) for subject in (run, bundle))
    np.testing.assert_allclose(first.kl_per_dimension, second.kl_per_dimension, atol=1e-4)
    assert first.negative_elbo_nats == pytest.approx(second.negative_elbo_nats, abs=1e-3)


@pytest.mark.parametrize("name", ["bernoulli", "continuous-bernoulli", "gaussian"])
def test_draws_cost_what_rows_cost(name: str) -> None:
    torch.manual_seed(0)
    likelihood = Likelihood(name, 0.3)
    raw, x = torch.randn(5, 7, 88) * 4, torch.rand(5, 88)
    expected = [likelihood.nats(raw[:, draw], x) for draw in range(7)]
    torch.testing.assert_close(likelihood.draw_nats(raw.clone(), x), torch.stack(expected, 1))
    mean = likelihood.mean(raw)
    remembered = likelihood.raw(mean)  # which is less than raw where the mean is next to 1
    expected = [likelihood.nats(remembered[:, draw], x) for draw in range(7)]
    torch.testing.assert_close(likelihood.mean_draw_nats(mean, x), torch.stack(expected, 1))


def test_statistics_of_a_known_posterior(linear: Linear) -> None:
    found = posterior_statistics(linear.subject, linear.x)
    mu, _ = linear.subject.encode(linear.x)
    sigma2 = math.exp(-1)
    assert found.mean_sigma == pytest.approx(math.sqrt(sigma2))
    assert found.median_sigma == found.median_sigma_active == pytest.approx(math.sqrt(sigma2))
    assert found.active_units == LATENT_DIM
    np.testing.assert_allclose(found.aggregated_mean, mu.mean(0), atol=1e-6)
    np.testing.assert_allclose(
        found.aggregated_variance, mu.var(0, correction=0) + sigma2, rtol=1e-5
    )
    kl = 0.5 * (mu.square().mean(0) + sigma2 - 1 + 1)
    np.testing.assert_allclose(found.kl_per_dimension, kl, rtol=1e-5)
    assert found.kl_nats == pytest.approx(float(kl.sum()), rel=1e-5)
    assert found.mutual_information_nats + found.marginal_kl_nats == pytest.approx(found.kl_nats)
    assert found.median_sigma_active == found.median_sigma
    assert found.mean_sigma_active == pytest.approx(math.sqrt(sigma2))
    assert found.clamped_low_share == found.clamped_high_share == 0


def test_mutual_information_by_its_definition() -> None:
    torch.manual_seed(0)
    mu, log_var = torch.randn(60, 3).double(), torch.randn(60, 3).double()
    eps = torch.randn(60, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    z = mu + (0.5 * log_var).exp() * eps
    posteriors = torch.distributions.Normal(mu, (0.5 * log_var).exp())
    pairs = posteriors.log_prob(z[:, None]).sum(2)  # type: ignore[no-untyped-call]
    expected = float((pairs.diagonal() - torch.logsumexp(pairs, 1) + math.log(60)).mean())
    assert mutual_information(mu, log_var, seed=4) == pytest.approx(expected, abs=1e-9)


def test_mutual_information_of_separate_and_of_equal_posteriors() -> None:
    rows = 200
    apart = 100 * torch.arange(rows, dtype=torch.float64)[:, None]
    narrow = torch.zeros(rows, 1, dtype=torch.float64)
    assert mutual_information(apart, narrow, seed=0) == pytest.approx(math.log(rows), abs=1e-9)
    assert mutual_information(0 * apart, narrow, seed=0) == pytest.approx(0, abs=1e-9)


def test_command_of_a_run(
    repository: Path, run_command: Callable[..., Result], tmp_path: Path
) -> None:
    run = repository.parent / "runs" / "digits"
    common = (run, "--data", "digits", "--rows", 30, "--samples", 20)
    table = run_command("evaluate", *common)
    assert "warning" not in table.stderr
    assert table.exit_code == 0, table.output
    assert "30 of digits, validation, seed 0" in table.stdout
    assert "-log p(x), K=20" in table.stdout
    found = json.loads(run_command("evaluate", *common, "--json").stdout)
    again = json.loads(run_command("evaluate", *common, "--json").stdout)
    assert found["bounds"] == again["bounds"]
    assert [bound["samples"] for bound in found["bounds"]] == [1, 10, 20]
    assert found["statistics"]["rows"] == 30
    assert (found["part"], found["held_out"]) == ("validation", True)
    assert found["trained_on_sha256"] == load("digits").sha256
    assert found["cpu_seconds"] > 0
    assert len(found["data_sha256"]) == 64


def test_command_of_a_bundle_with_drawn_pixels(
    repository: Path, run_command: Callable[..., Result]
) -> None:
    bundle = repository / "digits" / "1"
    common = (bundle, "--data", "digits", "--rows", 20, "--samples", 5, "--json")
    grey = json.loads(run_command("evaluate", *common).stdout)
    drawn = json.loads(run_command("evaluate", *common, "--binarise").stdout)
    assert (grey["binarised"], drawn["binarised"]) == (False, True)
    assert grey["bounds"] != drawn["bounds"]
    assert not grey["held_out"]
    assert "onnxruntime" in grey["versions"]


def test_a_bundle_does_not_tell_which_rows_it_was_trained_on(
    repository: Path, run_command: Callable[..., Result]
) -> None:
    bundle = repository / "digits" / "1"
    shown = run_command("evaluate", bundle, "--data", "digits", "--rows", 2, "--samples", 1)
    assert "warning: some of these rows may be among those" in shown.stderr


def test_a_broken_test_part_is_not_passed_over(
    repository: Path, refused: Callable[..., str], tmp_path: Path
) -> None:
    np.savez(
        tmp_path / "data.npz",
        train=np.zeros((9, 1, 8, 8), np.float32),
        test=np.full((3, 1, 8, 8), np.nan, np.float32),
    )
    line = refused(
        "evaluate", repository / "digits" / "1", "--data", f"npz:{tmp_path / 'data.npz'}"
    )
    assert "NaN" in line


def test_what_is_not_defined_is_null(
    repository: Path, run_command: Callable[..., Result], tmp_path: Path
) -> None:
    """A single row has no spread, and no dimension is active: JSON knows no NaN."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    common = (repository / "digits" / "1", "--data", "digits", "--rows", 1, "--samples", 2)
    text = run_command("evaluate", *common, "--json").stdout
    found = json.loads(text, parse_constant=refuse)
    assert found["statistics"]["median_sigma_active"] is None
    assert found["bounds"][0]["standard_error"] is None
    assert run_command("evaluate", *common).exit_code == 0


def test_the_test_part_is_the_default_where_there_is_one(
    repository: Path, run_command: Callable[..., Result], tmp_path: Path
) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (12, 8, 8), np.uint8)
    np.savez(tmp_path / "data.npz", train=levels[:9], test=levels[9:])
    common = (repository / "digits" / "1", "--data", f"npz:{tmp_path / 'data.npz'}")
    found = json.loads(run_command("evaluate", *common, "--samples", 1, "--json").stdout)
    assert (found["part"], found["statistics"]["rows"]) == ("test", 3)
    train = run_command("evaluate", *common, "--samples", 1, "--part", "train", "--json")
    assert json.loads(train.stdout)["statistics"]["rows"] == 8  # a tenth is for validation


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("digits", ("--data", "digits", "--part", "test"), "has no test part"),
        ("vectors", ("--data", "digits"), "rows are [1, 8, 8]"),
        ("linear", ("--data", "npy:{x}", "--binarise"), "is no Bernoulli model"),
        ("none", ("--data", "digits"), "is neither a run"),
    ],
)
def test_what_cannot_be_measured(
    repository: Path,
    linear: Linear,
    refused: Callable[..., str],
    tmp_path: Path,
    model: str,
    options: tuple[str, ...],
    message: str,
) -> None:
    np.save(tmp_path / "x.npy", linear.x.numpy())
    folder = linear.folder if model == "linear" else repository / model / "1"
    arguments = [option.format(x=tmp_path / "x.npy") for option in options]
    assert message in refused("evaluate", folder, *arguments)


def test_a_bundle_is_measured_without_its_run(linear: Linear) -> None:
    assert isinstance(linear.subject, BundleSubject)
    assert linear.subject.origin.beta is None
