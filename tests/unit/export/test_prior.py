"""The fitted prior, on posteriors whose density is known."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from support.latents import KnownPosteriors, rows
from vaeserve.v1.archives import Mixture
from vaeserve_export import npz
from vaeserve_export.data.dataset import Dataset
from vaeserve_export.errors import DataError, LatentError
from vaeserve_export.latent.mixture import draw, log_density, log_standard
from vaeserve_export.latent.prior import fit_prior


def _mixture(seed: int, components: int, size: int) -> Mixture:
    rng = np.random.default_rng(seed)
    factors = np.tril(rng.normal(size=(components, size, size)))
    index = np.arange(size)
    factors[:, index, index] = rng.uniform(0.2, 2, (components, size))
    weights = rng.uniform(0.1, 1, components)
    return Mixture(weights / weights.sum(), rng.normal(size=(components, size)), factors)


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 5))
def test_density_is_that_of_torch(seed: int, components: int, size: int) -> None:
    mixture = _mixture(seed, components, size)
    z = np.random.default_rng(seed).normal(size=(7, size))
    weights, means, cholesky = (torch.from_numpy(part) for part in mixture)
    reference = MixtureSameFamily(
        Categorical(weights), MultivariateNormal(means, scale_tril=cholesky)
    )
    expected = reference.log_prob(torch.from_numpy(z))  # type: ignore[no-untyped-call]
    np.testing.assert_allclose(log_density(mixture, z), expected.numpy(), rtol=1e-9, atol=1e-9)


def test_draws_have_the_moments_of_the_mixture() -> None:
    mixture = _mixture(0, 3, 2)
    z = draw(mixture, 40_000, 0)
    mean = mixture.weights @ mixture.means
    np.testing.assert_allclose(z.mean(0), mean, atol=0.05)
    second = sum(
        w * (factor @ factor.T + np.outer(m, m)) for w, m, factor in zip(*mixture, strict=True)
    )
    np.testing.assert_allclose(z.T @ z / len(z), second, atol=0.2)


@pytest.fixture
def three_clusters() -> Dataset:
    """Two dimensions with three clusters, one that no row moves."""
    rng = np.random.default_rng(0)
    centres = np.array([[-2.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    mu = np.zeros((1500, 3))
    mu[:, :2] = centres[rng.integers(3, size=1500)] + rng.normal(0, 0.1, (1500, 2))
    return rows(mu, np.array([0.04, 0.04, 1.0]))


def test_fit_finds_the_clusters_and_leaves_the_idle_dimension(three_clusters: Dataset) -> None:
    fit = fit_prior(KnownPosteriors(3), three_clusters)
    assert fit.tried[fit.entry.components] == min(fit.tried.values())
    assert fit.entry.components >= 3
    assert fit.active == 2
    assert fit.entry.held_out_nats < fit.entry.standard_nats - 1
    # The mixture of draws: N(centre, 0.1^2 + 0.04), 3 of them, and N(0, 1).
    entropy = np.log(3) + 1 + np.log(2 * np.pi * 0.05) + 0.5 * (1 + np.log(2 * np.pi))
    assert fit.entry.held_out_nats == pytest.approx(entropy, abs=0.15)
    assert (fit.mixture.means[:, 2] == 0).all()
    assert (fit.mixture.cholesky[:, 2] == [0, 0, 1]).all()


def test_fit_is_to_draws_and_not_to_means() -> None:
    mu = np.random.default_rng(0).normal(0, np.sqrt(0.5), (2000, 2))
    fit = fit_prior(KnownPosteriors(2), rows(mu, 0.5), components=1)
    covariance = fit.mixture.cholesky[0] @ fit.mixture.cholesky[0].T
    np.testing.assert_allclose(covariance, np.eye(2), atol=0.1)
    assert fit.entry.held_out_nats == pytest.approx(fit.entry.standard_nats, abs=0.02)


def test_equal_seeds_give_equal_bytes(three_clusters: Dataset) -> None:
    one, two = (fit_prior(KnownPosteriors(3), three_clusters, components=3) for _ in range(2))
    assert npz.to_bytes(one.mixture._asdict()) == npz.to_bytes(two.mixture._asdict())
    assert one.entry == two.entry
    other = fit_prior(KnownPosteriors(3), three_clusters, components=3, seed=1)
    assert other.entry != one.entry


def test_a_source_may_be_sorted(three_clusters: Dataset) -> None:
    """By its clusters, with a validation part of its own: a sixth of its rows lies in the first."""
    left = np.flatnonzero(three_clusters.x[:, 0] < -1)
    few_left = np.delete(three_clusters.x, left[200:], axis=0)
    learned, held_out = few_left[:-100], few_left[-100:]
    order = np.argsort(learned[:, 0], kind="stable")
    fits = [
        fit_prior(
            KnownPosteriors(3),
            dataclasses.replace(
                three_clusters,
                x=x,
                validation=dataclasses.replace(three_clusters, x=held_out),
            ),
        )
        for x in (learned, learned[order])
    ]
    assert fits[1].entry.components >= 3
    nats = [fit.entry.held_out_nats for fit in fits]
    assert nats[1] == pytest.approx(nats[0], abs=0.2)
    assert fits[1].warnings == []


def test_a_prior_that_is_worse_than_the_standard_one_warns() -> None:
    mu = np.random.default_rng(0).normal(0, 0.3, (40, 12))
    fit = fit_prior(KnownPosteriors(12), rows(mu, 0.9), components=1)
    assert fit.entry.held_out_nats > fit.entry.standard_nats
    (warning,) = fit.warnings
    assert warning.startswith("warning: the fitted prior is worse than N(0, I), by ")


@pytest.mark.parametrize("seed", [2**32, 2**64 - 1])
def test_every_seed_of_a_training_fits(three_clusters: Dataset, seed: int) -> None:
    fit = fit_prior(KnownPosteriors(3), three_clusters, components=3, seed=seed)
    assert fit.entry.held_out_nats < fit.entry.standard_nats - 1


def test_standard_density() -> None:
    z = np.random.default_rng(0).normal(size=(5, 4))
    expected = MultivariateNormal(torch.zeros(4), torch.eye(4)).log_prob(torch.from_numpy(z))  # type: ignore[no-untyped-call]
    np.testing.assert_allclose(log_standard(z), expected.numpy(), rtol=1e-6)


def test_refusals(three_clusters: Dataset) -> None:
    with pytest.raises(LatentError, match="too few for 500 components"):
        fit_prior(KnownPosteriors(3), three_clusters, components=500)
    few = three_clusters.take(np.arange(14))
    with pytest.raises(LatentError, match="11 rows to fit to are too few for 2 components"):
        fit_prior(KnownPosteriors(3), few, components=2)
    with pytest.raises(LatentError, match="too few for one component"):
        fit_prior(KnownPosteriors(3), three_clusters.take(np.arange(4)))
    wide = rows(np.random.default_rng(0).normal(size=(20, 15)), 0.1)
    with pytest.raises(
        LatentError, match=r"15 rows .* covariance of 15 dimensions: use at least 16"
    ):
        fit_prior(KnownPosteriors(15), wide)
    with pytest.raises(LatentError, match="no latent dimension is active"):
        fit_prior(KnownPosteriors(2), rows(np.zeros((50, 2)), 1.0))
    with pytest.raises(DataError, match=r"shape \[6\], known takes \[4\]"):
        fit_prior(KnownPosteriors(2), three_clusters)
