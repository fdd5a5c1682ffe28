import pytest
from hypothesis import given, strategies as st

from vaeserve_server.run_times import RunTimes


def test_nothing_known_predicts_no_wait() -> None:
    assert RunTimes().predict(100, 8) == 0.0


def test_full_batches_and_the_rest() -> None:
    times = RunTimes()
    times.record(8, 0.8)
    times.record(2, 0.3)
    assert times.predict(18, 8) == pytest.approx(0.8 + 0.8 + 0.3)


def test_an_unseen_bucket_takes_the_next_larger_or_scales() -> None:
    times = RunTimes()
    times.record(4, 0.4)
    assert times.predict(1, 64) == pytest.approx(0.4)
    assert times.predict(16, 64) == pytest.approx(1.6)


def test_the_average_follows_new_runs() -> None:
    times = RunTimes()
    times.record(4, 1.0)
    for _ in range(50):
        times.record(3, 2.0)
    assert times.predict(4, 64) == pytest.approx(2.0, rel=1e-3)


RUNS = st.lists(st.tuples(st.integers(1, 300), st.floats(1e-6, 10)), min_size=1, max_size=60)


def bucket(rows: int) -> int:
    return (rows - 1).bit_length()


@given(runs=RUNS, rows=st.integers(1, 300))
def test_a_seen_bucket_has_its_own_average_whatever_the_others_had(
    runs: list[tuple[int, float]], rows: int
) -> None:
    times = RunTimes()
    averages: dict[int, float] = {}
    for count, seconds in runs:
        times.record(count, seconds)
        known = averages.get(bucket(count), seconds)
        averages[bucket(count)] = known + 0.2 * (seconds - known)
    own = bucket(rows)
    larger = [averages[known] for known in sorted(averages) if known >= own]
    largest = max(averages)
    expected = larger[0] if larger else averages[largest] * 2 ** (own - largest)
    assert times.predict(rows, 300) == pytest.approx(expected)


@given(runs=RUNS)
def test_the_fastest_run_is_no_slower_than_any_recent_one(runs: list[tuple[int, float]]) -> None:
    times = RunTimes()
    of_bucket: dict[int, list[float]] = {}
    for count, seconds in runs:
        times.record(count, seconds)
        of_bucket.setdefault(bucket(count), []).append(seconds)
    for own, seen in of_bucket.items():
        fastest = times.fastest(1 << own)
        assert min(seen) <= fastest <= min(seen[-1], min(seen) * 1.01 ** len(seen)) * (1 + 1e-9)


def test_the_fastest_run_forgets_a_machine_that_has_changed() -> None:
    times = RunTimes()
    times.record(1, 1e-6)
    for _ in range(2000):
        times.record(1, 1e-3)
    assert times.fastest(1) == pytest.approx(1e-3)


def test_the_fastest_run_of_unseen_sizes_is_estimated() -> None:
    times = RunTimes()
    assert times.fastest(1) == 0.0
    times.record(8, 0.8)
    assert times.fastest(3) == pytest.approx(0.8)
    assert times.fastest(16) == pytest.approx(1.6)
