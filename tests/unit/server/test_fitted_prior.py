"""Draws from the fitted mixture: the right density, the same bits however they are asked for."""

import numpy as np
from hypothesis import given, strategies as st

from vaeserve.v1.archives import Mixture
from vaeserve.v1.noise import Block, Stream, standard_normal
from vaeserve_server.fitted_prior import FittedPrior

FACTORS = np.array([[[0.5, 0, 0], [0.3, 0.4, 0], [-0.2, 0.1, 0.2]], np.diag([0.1, 0.2, 0.3])])
MIXTURE = Mixture(
    weights=np.array([0.7, 0.3]),
    means=np.array([[-10.0, 1, 2], [10, 0, -1]]),
    cholesky=FACTORS,
)


def test_every_component_has_its_share_its_mean_and_its_covariance() -> None:
    rows = 40_000
    z = FittedPrior(MIXTURE).draw(Block(3, 0, rows), 1.0).astype(np.float64)
    first = z[:, 0] < 0
    assert abs(first.mean() - 0.7) < 4 * np.sqrt(0.21 / rows)
    for own, mean, factor in zip((z[first], z[~first]), *MIXTURE[1:], strict=True):
        np.testing.assert_allclose(own.mean(0), mean, atol=0.02)
        np.testing.assert_allclose(np.cov(own.T), factor @ factor.T, atol=0.01)


def test_the_component_says_nothing_of_the_noise() -> None:
    z = FittedPrior(MIXTURE).draw(Block(5, 0, 20_000), 1.0)
    eps = standard_normal(5, Stream.PRIOR, first_row=0, rows=20_000, size=3)[:, 0]
    correlation = np.corrcoef(z[:, 0] < 0, eps[:, 0])[0, 1]
    assert abs(correlation) < 5 / np.sqrt(20_000)


@given(first=st.integers(0, 60), rows=st.integers(1, 9), seed=st.integers(0, 2**64 - 1))
def test_a_row_does_not_depend_on_the_rows_around_it(first: int, rows: int, seed: int) -> None:
    prior = FittedPrior(MIXTURE)
    whole = prior.draw(Block(seed, 0, 70), 1.0)
    part = prior.draw(Block(seed, first, rows), 1.0)
    np.testing.assert_array_equal(part, whole[first : first + rows])


def test_temperature_scales_each_component_about_its_mean() -> None:
    prior = FittedPrior(MIXTURE)
    cold, warm, hot = (prior.draw(Block(1, 0, 50), t).astype(np.float64) for t in (0.0, 1.0, 2.0))
    assert {tuple(row) for row in cold} == {tuple(row) for row in MIXTURE.means}
    np.testing.assert_allclose(hot - cold, 2 * (warm - cold), atol=1e-5)


def test_one_standard_component_is_the_standard_prior() -> None:
    standard = Mixture(np.ones(1), np.zeros((1, 5)), np.eye(5)[None])
    eps = standard_normal(9, Stream.PRIOR, first_row=4, rows=30, size=5)[:, 0]
    np.testing.assert_array_equal(FittedPrior(standard).draw(Block(9, 4, 30), 1.0), eps)


def test_the_last_component_is_reached_whatever_the_weights_round_to() -> None:
    mixture = Mixture(np.full(3, 1 / 3), np.arange(3.0)[:, None], np.full((3, 1, 1), 1e-9))
    z = FittedPrior(mixture).draw(Block(0, 0, 300), 0.0)
    assert set(z[:, 0].tolist()) == {0.0, 1.0, 2.0}
