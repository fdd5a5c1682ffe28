"""Arrival times of the open loop."""

import numpy as np
from hypothesis import given, strategies as st

from vaeserve_loadtest.schedule import poisson_arrivals

RATES = st.floats(0.5, 500)
SEEDS = st.integers(0, 2**32)


@given(rate=RATES, duration=st.floats(0.1, 5), seed=SEEDS)
def test_arrivals_ascend_within_the_duration(rate: float, duration: float, seed: int) -> None:
    arrivals = poisson_arrivals(rate, duration, seed)
    assert ((arrivals >= 0) & (arrivals < duration)).all()
    assert (np.diff(arrivals) >= 0).all()


@given(rate=RATES, duration=st.floats(0.1, 5), seed=SEEDS)
def test_a_longer_schedule_begins_with_a_shorter_one(
    rate: float, duration: float, seed: int
) -> None:
    short = poisson_arrivals(rate, duration, seed)
    long = poisson_arrivals(rate, 2 * duration, seed)
    np.testing.assert_array_equal(short, long[: len(short)])


def test_gaps_are_exponential_with_the_mean_of_the_rate() -> None:
    arrivals = poisson_arrivals(1000, 100, seed=1)
    gaps = np.diff(arrivals)
    assert abs(len(arrivals) - 100_000) < 4 * np.sqrt(100_000)
    np.testing.assert_allclose([gaps.mean(), gaps.std()], 1e-3, rtol=0.02)
    np.testing.assert_allclose((gaps > 1e-3).mean(), np.exp(-1), rtol=0.02)


def test_seeds_differ() -> None:
    assert not np.array_equal(poisson_arrivals(10, 5, 1), poisson_arrivals(10, 5, 2))
