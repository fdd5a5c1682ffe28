"""Batches on the transport's own thread, and what that changes for nobody."""

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from support.engines import (
    BAD_ROW,
    ROW_SHAPE,
    WatchedEngine,
    numbered,
)
from support.turn_bench import LONG_S, Bench, Request, bench
from vaeserve_server.call import Call, Floats, Outputs, Timing
from vaeserve_server.config import Placement
from vaeserve_server.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidArgument,
    Overloaded,
)

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["lane", "other", "turn", "cancel", "tick"]),
        st.integers(1, 8),
        st.sampled_from(["sound", "sound", "sound", "unsound", "bad", "hurried"]),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=150)
@given(
    steps=STEPS,
    placement=st.sampled_from(["auto", "inline", "thread"]),
    long=st.booleans(),
)
def test_every_caller_gets_its_own_rows_or_its_own_error_once(
    steps: list[tuple[str, int, str]], placement: Placement, long: bool
) -> None:
    requests: list[Request] = []
    with ThreadPoolExecutor(3) as others, bench(placement, max_queue_rows=30) as b:
        if long:
            b.times.record(8, LONG_S)
        jobs = []
        for number, (step, count, kind) in enumerate(steps):
            rows, call = a_request(b, number, count, kind)
            if step == "lane":
                requests.append(b.submit(rows, call))
            elif step == "other":
                jobs.append(others.submit(b.submit, rows, call))
            elif step == "turn":
                b.turn.end()
            elif step == "tick":
                b.clock.now += 10 * LONG_S
            elif requests:
                requests[-1].call.cancelled = True
        b.turn.end()
        requests += [job.result(10) for job in jobs]
        for request in requests:
            if request.refused is None:
                request.outcome()
    assert not b.engine.met
    assert not b.died.is_set()
    for request in requests:
        check_one_right_outcome(request, b.engine)
    if placement == "thread":
        assert not any(b.seen.inline)


def a_request(b: Bench, number: int, count: int, kind: str) -> tuple[Floats, Call]:
    rows = numbered(100 * number, count)
    if kind == "unsound":
        rows[-1, -1] = np.nan
    elif kind == "bad":
        rows[-1, -1] = BAD_ROW
    return rows, Call(deadline=b.clock.now + 20.5 * LONG_S if kind == "hurried" else None)


def check_one_right_outcome(request: Request, engine: WatchedEngine) -> None:
    if request.refused is not None:
        assert not request.outcomes
        assert isinstance(request.refused, Overloaded | DeadlineExceeded)
        assert isinstance(request.refused, Overloaded) or request.call.deadline is not None
        return
    (outcome,) = request.outcomes
    if isinstance(outcome, Cancelled):
        assert request.call.cancelled
    elif isinstance(outcome, DeadlineExceeded):
        assert request.call.deadline is not None
    elif not np.isfinite(request.rows).all():
        assert isinstance(outcome, InvalidArgument)
        assert outcome.reason == "NOT_FINITE"
    elif float(request.rows[0, 0]) in engine.failed:
        assert isinstance(outcome, ValueError)
    else:
        request.check_own_rows()


def test_batches_leave_nothing_to_the_garbage_collector() -> None:
    """It would stop everybody now and then, and keep the rows of answered callers until then."""
    with bench() as b:
        gc.collect()
        gc.disable()
        try:
            for number in range(3):
                b.batcher.submit(numbered(number, 1), Call(), lambda _: None)
                b.turn.end()
            assert gc.collect() == 0
        finally:
            gc.enable()


def test_what_an_answered_caller_submits_is_run_in_the_same_turn() -> None:
    with bench() as b:
        second: list[Request] = []

        def go_on(outcome: Outputs | Exception) -> None:
            assert not isinstance(outcome, Exception)
            second.append(b.submit(outcome[0]))

        b.batcher.submit(numbered(0, 3), Call(), go_on)
        b.turn.end()
        second[0].check_own_rows()
        assert b.engine.batches == [3, 3]


def test_callers_who_left_before_the_turn_ended_are_not_run() -> None:
    with bench() as b:
        leaver, late, stayer = (
            b.submit(numbered(0, 1)),
            b.submit(numbered(1, 1), Call(deadline=b.clock.now + 1)),
            b.submit(numbered(2, 1)),
        )
        leaver.call.cancelled = True
        b.clock.now += 1
        b.turn.end()
        assert isinstance(leaver.outcome(), Cancelled)
        assert isinstance(late.outcome(), DeadlineExceeded)
        stayer.check_own_rows()
        assert b.engine.batches == [1]
        assert b.seen.rejections == ["CANCELLED", "EXPIRED"]


def test_unsound_rows_leave_their_batch_and_nobody_else() -> None:
    with bench() as b:
        rows = [numbered(10 * i, 2) for i in range(3)]
        rows[1][0, 0] = np.inf
        requests = [b.submit(own) for own in rows]
        b.turn.end()
        requests[0].check_own_rows()
        requests[2].check_own_rows()
        problem = requests[1].outcome()
        assert isinstance(problem, InvalidArgument)
        assert problem.field == "rows"
        assert b.engine.batches == [4]


def test_a_batch_without_sound_rows_is_not_run() -> None:
    with bench() as b:
        request = b.submit(np.full((2, *ROW_SHAPE), np.nan, np.float32))
        b.turn.end()
        assert isinstance(request.outcome(), InvalidArgument)
        assert b.engine.batches == []


def test_a_row_on_which_the_model_overflows_is_its_callers_alone() -> None:
    with bench() as b:
        large = np.full((1, *ROW_SHAPE), 3e38, np.float32)
        with np.errstate(over="ignore"):
            requests = [b.submit(numbered(0, 2)), b.submit(large), b.submit(numbered(2, 2))]
            b.turn.end()
        requests[0].check_own_rows()
        requests[2].check_own_rows()
        problem = requests[1].outcome()
        assert isinstance(problem, InvalidArgument)
        assert problem.reason == "NOT_FINITE"
        assert b.engine.batches == [5]


def test_who_asked_is_told_where_the_time_went() -> None:
    with bench() as b:

        def take_time(_: Floats) -> None:
            b.clock.now += 0.25

        b.engine.failure = take_time
        early = b.submit(numbered(0, 2), Call(timings=[]))
        b.clock.now += 0.5
        b.submit(numbered(2, 2))
        late = b.submit(numbered(4, 1), Call(timings=[]))
        b.turn.end()
        assert early.call.timings == [Timing("bench", 0.5, 0.25, 5, "idle")]
        assert late.call.timings == [Timing("bench", 0.0, 0.25, 5, "idle")]
        assert b.seen.waits == [0.5, 0.0, 0.0]


def raise_a_bug(*_: object) -> None:
    raise ZeroDivisionError("a bug")


@pytest.mark.parametrize("when", ["computed", "rejected"])
def test_a_bug_leaves_nobody_waiting_and_the_transport_alive(
    when: str, caplog: pytest.LogCaptureFixture
) -> None:
    with bench() as b:
        setattr(b.seen, when, raise_a_bug)
        requests = [
            *(b.submit(numbered(i, 1), Call(deadline=b.clock.now + 1)) for i in range(3)),
            *(b.submit(numbered(10 * i, 5)) for i in range(4)),
        ]
        if when == "rejected":
            b.clock.now += 2
        b.turn.end()
        assert b.died.is_set()
        assert len(b.seen.inline) <= 1
        for request in requests:
            assert isinstance(request.outcome(), RuntimeError | DeadlineExceeded)
            assert len(request.outcomes) == 1
        with pytest.raises(RuntimeError, match="has died"):
            b.submit(numbered(0, 1))
    assert "batcher died" in caplog.text


def test_many_threads_and_a_busy_transport() -> None:
    def work(b: Bench, first: int) -> list[Request]:
        return [b.submit(numbered(1000 * first + i, 1 + i % 3)) for i in range(100)]

    with ThreadPoolExecutor(4) as pool, bench("auto") as b:
        jobs = [pool.submit(work, b, number) for number in range(4)]
        own: list[Request] = []
        while not all(job.done() for job in jobs):
            own.append(b.submit(numbered(len(own), 1)))
            b.turn.end()
        for request in [*own, *(request for job in jobs for request in job.result())]:
            if request.refused is None:
                request.check_own_rows()
        assert not b.engine.met
