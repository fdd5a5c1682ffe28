"""Arrival times of the open loop, and when the callers of a closed one begin."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from vaeserve_loadtest import Load
from vaeserve_loadtest.schedule import arrivals, caller_starts, seed_of_run

RATES = st.floats(0.5, 500)
DURATIONS = st.floats(0.1, 5)
WARMUPS = st.sampled_from([0.0, 0.3])
SEEDS = st.integers(0, 2**32)
KINDS = st.sampled_from(["poisson", "constant"])


def load(rate: float, duration: float, **changes: Any) -> Load:
    settings: dict[str, Any] = {"warmup_s": 0.0} | changes
    return Load(address="", model="", rate=rate, duration_s=duration, **settings)


@given(rate=RATES, end=RATES, duration=DURATIONS, warmup=WARMUPS, seed=SEEDS, kind=KINDS)
def test_arrivals_ascend_within_the_run(
    rate: float, end: float, duration: float, warmup: float, seed: int, kind: str
) -> None:
    chosen = load(end, duration, ramp_from=rate, warmup_s=warmup, seed=seed, arrivals=kind)
    moments = arrivals(chosen)
    assert ((moments >= 0) & (moments <= (warmup + duration) * (1 + 1e-9))).all()
    assert (np.diff(moments) >= 0).all()


@given(rate=RATES, duration=DURATIONS, seed=SEEDS, kind=KINDS)
def test_a_longer_schedule_begins_with_a_shorter_one(
    rate: float, duration: float, seed: int, kind: str
) -> None:
    short = arrivals(load(rate, duration, seed=seed, arrivals=kind))
    long = arrivals(load(rate, 2 * duration, seed=seed, arrivals=kind))
    np.testing.assert_array_equal(short, long[: len(short)])


def test_gaps_are_exponential_with_the_mean_of_the_rate() -> None:
    moments = arrivals(load(1000, 100, seed=1))
    gaps = np.diff(moments)
    assert abs(len(moments) - 100_000) < 4 * np.sqrt(100_000)
    np.testing.assert_allclose([gaps.mean(), gaps.std()], 1e-3, rtol=0.02)
    np.testing.assert_allclose((gaps > 1e-3).mean(), np.exp(-1), rtol=0.02)


def test_constant_gaps_are_equal() -> None:
    np.testing.assert_allclose(arrivals(load(100, 1, arrivals="constant")), np.arange(100) / 100)


@pytest.mark.parametrize("kind", ["poisson", "constant"])
@pytest.mark.parametrize(("begin", "end"), [(100, 900), (900, 100), (500, 500)])
def test_a_ramp_grows_evenly(begin: float, end: float, kind: str) -> None:
    moments = arrivals(load(end, 100, ramp_from=begin, warmup_s=10, arrivals=kind))
    counts, _ = np.histogram(moments, bins=np.arange(0, 111, 10))
    middles = begin + (end - begin) * (np.arange(10) + 0.5) / 10
    expected = 10 * np.concatenate([[begin], middles])
    np.testing.assert_allclose(counts, expected, atol=5 * np.sqrt(9000))
    assert counts.sum() == pytest.approx(expected.sum(), rel=0.02)


def test_seeds_differ() -> None:
    assert not np.array_equal(arrivals(load(10, 5, seed=1)), arrivals(load(10, 5, seed=2)))


def test_callers_begin_together_or_one_after_the_other() -> None:
    together = Load(address="", model="", concurrency=3)
    np.testing.assert_array_equal(caller_starts(together), [0, 0, 0])
    ramp = Load(address="", model="", concurrency=5, ramp_from=1, duration_s=10, warmup_s=2)
    np.testing.assert_allclose(caller_starts(ramp), [0, 4.5, 7, 9.5, 12])


@pytest.mark.parametrize(("begin", "end"), [(64.0, 8), (2.0, 1)])
def test_a_ramp_of_callers_does_not_fall(begin: float, end: int) -> None:
    with pytest.raises(ValueError, match="ramp of callers only grows"):
        Load(address="", model="", concurrency=end, ramp_from=begin)


def test_a_ramp_between_equal_ends_is_a_constant_load() -> None:
    flat = Load(address="", model="", concurrency=3, ramp_from=3)
    np.testing.assert_array_equal(caller_starts(flat), [0, 0, 0])


@given(st.integers(0, 2**64))
def test_runs_of_a_search_share_no_seed_with_those_of_another(seed: int) -> None:
    seeds = [seed_of_run(each, run) for each in (seed, seed + 1) for run in range(1, 31)]
    assert len(set(seeds)) == len(seeds)
    assert seeds[:30] == [seed_of_run(seed, run) for run in range(1, 31)]
