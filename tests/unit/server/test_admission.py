"""Which requests a queue takes: those it has room for, and that can be answered in time."""

import time

import pytest

from support.batch_bench import bench
from support.engines import (
    Clock,
    check_own_rows,
    numbered,
)
from vaeserve_server.call import Call
from vaeserve_server.errors import (
    DeadlineExceeded,
    Overloaded,
)


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    with bench(max_rows=4, max_queue_rows=8, clock=Clock()) as b:
        b.times.record(4, 0.5)
        b.occupy()
        kept = [b.submit(numbered(0, 4)), b.submit(numbered(4, 4))]
        with pytest.raises(Overloaded) as refusal:
            b.submit(numbered(8, 1))
        # 8 rows wait and 1 runs: two full batches and one more.
        assert refusal.value.retry_after_s == pytest.approx(1.5)
        assert b.seen.rejections == ["QUEUE_FULL"]
        b.engine.release()
        for i, answer in enumerate(kept):
            check_own_rows(answer, numbered(4 * i, 4))


def test_a_request_that_cannot_be_done_in_time_is_refused_on_arrival() -> None:
    clock = Clock()
    with bench(max_rows=4, clock=clock) as b:
        b.times.record(4, 2.0)
        b.occupy()
        b.submit(numbered(0, 4), Call(deadline=clock.now + 60))
        with pytest.raises(DeadlineExceeded) as refusal:
            b.submit(numbered(4, 4), Call(deadline=clock.now + 3))
        assert refusal.value.reason == "QUEUE_WAIT"
        with pytest.raises(DeadlineExceeded) as refusal:
            b.submit(numbered(4, 4), Call(deadline=clock.now))
        assert refusal.value.reason == "EXPIRED"


def test_a_run_that_is_nearly_over_is_hardly_waited_for() -> None:
    clock = Clock()
    with bench(clock=clock) as b:
        b.times.record(1, 1.0)
        b.occupy()
        clock.now += 0.5
        with pytest.raises(DeadlineExceeded, match=r"1 rows are ahead, about 1\.500 s"):
            b.submit(numbered(0, 1), Call(deadline=clock.now + 1.3))
        clock.now += 0.4
        answers = [b.submit(numbered(0, 1), Call(deadline=clock.now + 1.3))]
        clock.now += 0.9  # it takes longer than any run before
        answers.append(b.submit(numbered(1, 1), Call(deadline=clock.now + 2.1)))
        b.engine.release()
        for first, answer in enumerate(answers):
            check_own_rows(answer, numbered(first, 1))


def test_an_idle_engine_takes_a_request_whatever_the_prediction() -> None:
    with bench() as b:
        b.times.record(1, 1000.0)
        check_own_rows(
            b.submit(numbered(0, 1), Call(deadline=time.monotonic() + 5)), numbered(0, 1)
        )
