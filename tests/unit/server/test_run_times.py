import pytest

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
