"""Batches on the transport's own thread, and what that changes for nobody."""

import gc
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from support.engines import (
    BAD_ROW,
    ROW_SHAPE,
    Clock,
    Recorder,
    WatchedEngine,
    host_buffers,
    numbered,
)
from vaeserve_server.batcher import Batcher
from vaeserve_server.call import Call, Done, Floats, Outputs, Timing
from vaeserve_server.config import Placement
from vaeserve_server.engine import Slot
from vaeserve_server.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidArgument,
    Overloaded,
    ServiceError,
)
from vaeserve_server.packing import Packer
from vaeserve_server.run_times import RunTimes
from vaeserve_server.turn import Turn

LONG_S = 1.0


class Request:
    """One caller: what it sent and everything it was told."""

    def __init__(self, rows: Floats, call: Call) -> None:
        self.rows = rows
        self.call = call
        self.outcomes: list[Outputs | Exception] = []
        self.answered_by = 0
        self.refused: ServiceError | None = None
        self._answered = threading.Event()

    def done(self, outcome: Outputs | Exception) -> None:
        self.answered_by = threading.get_ident()
        self.outcomes.append(outcome)
        self._answered.set()

    def outcome(self) -> Outputs | Exception:
        assert self._answered.wait(10), "never answered"
        return self.outcomes[0]

    def check_own_rows(self) -> None:
        outcome = self.outcome()
        assert not isinstance(outcome, Exception), repr(outcome)
        double, negative = outcome
        np.testing.assert_array_equal(double, 2 * self.rows)
        np.testing.assert_array_equal(negative, -self.rows)


class Bench:
    """A batcher, and this thread as the transport's."""

    def __init__(
        self, placement: Placement, max_queue_rows: int = 1000, max_delay_s: float = 0.0
    ) -> None:
        self.engine = WatchedEngine()
        self.seen = Recorder()
        self.died = threading.Event()
        self.times = RunTimes()
        self.clock = Clock()
        self.turn = Turn(self.clock)
        self.turn.own()
        self.turn.begin()
        self.batcher = Batcher(
            [Slot(self.engine, Packer(host_buffers(8), field="rows")) for _ in range(2)],
            name="bench",
            max_rows=8,
            max_queue_rows=max_queue_rows,
            max_delay_s=max_delay_s,
            run_times=self.times,
            observer=self.seen,
            on_death=lambda _: self.died.set(),
            turn=self.turn,
            placement=placement,
            clock=self.clock,
        )

    def wait_until_answered(self) -> None:
        end = time.monotonic() + 10
        while self.batcher.in_flight:
            assert time.monotonic() < end, "never answered"
            time.sleep(0.001)

    def submit(self, rows: Floats, call: Call | None = None) -> Request:
        request = Request(rows, call or Call())
        try:
            self.batcher.submit(rows, request.call, request.done)
        except ServiceError as refusal:
            request.refused = refusal
        return request


@contextmanager
def bench(placement: Placement = "inline", **settings: float) -> Iterator[Bench]:
    made = Bench(placement, **settings)  # type: ignore[arg-type]  # forwarded as they come
    try:
        yield made
    finally:
        made.engine.release()
        made.turn.end()
        made.batcher.close(10)
    assert made.batcher.queued_rows == 0
    assert made.batcher.in_flight == 0


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


def test_short_batches_run_at_the_end_of_the_turn_on_its_thread() -> None:
    with bench("auto") as b:
        requests = [b.submit(numbered(10 * i, 2)) for i in range(3)]
        assert not any(request.outcomes for request in requests)
        b.turn.end()
        for request in requests:
            request.check_own_rows()
            assert request.answered_by == threading.get_ident()
        assert b.engine.batches == [6]
        assert b.seen.inline == [True]
        assert b.batcher.in_flight == 0


def test_long_batches_are_handed_over() -> None:
    with bench("auto") as b:
        b.times.record(2, LONG_S)
        request = b.submit(numbered(0, 2))
        b.turn.end()
        request.check_own_rows()
        assert request.answered_by != threading.get_ident()
        assert b.seen.inline == [False]


@pytest.mark.parametrize(
    ("reading_s", "answering_s", "inline"),
    [(0.0, 0.4, True), (0.0, 0.3, False), (0.4, 0.0, True), (0.3, 0.0, False), (0.2, 0.2, True)],
)
def test_what_takes_less_than_thrice_its_own_reading_and_answering_is_not_handed_over(
    reading_s: float, answering_s: float, inline: bool
) -> None:
    """On a slow machine everything takes longer: the transport's thread would gain nothing."""
    with bench("auto") as b:

        def take_time(_: object) -> None:
            b.clock.now += LONG_S

        def take_time_to_answer(_: Outputs | Exception) -> None:
            b.clock.now += answering_s * LONG_S

        def read(done: Done) -> None:
            b.turn.begin()
            b.clock.now += reading_s * LONG_S
            b.batcher.submit(numbered(0, 2), Call(), done)
            b.turn.end()

        b.engine.failure = take_time
        b.times.record(2, LONG_S)
        for done in (take_time_to_answer, lambda _: None):
            read(done)
            b.wait_until_answered()
        assert b.seen.inline == [3 * reading_s > 1, inline]


@pytest.mark.parametrize(("seconds", "inline"), [(0.9e-3, True), (1.1e-3, False)])
def test_a_lone_callers_run_is_handed_over_only_if_others_would_wait_long(
    seconds: float, inline: bool
) -> None:
    with bench("auto") as b:
        b.times.record(2, seconds)
        requests = [b.submit(numbered(0, 1)), b.submit(numbered(1, 1))]
        b.turn.end()
        for request in requests:
            request.check_own_rows()
        assert b.seen.inline == [inline]


def test_while_others_are_answered_the_next_run_is_handed_over() -> None:
    answering, answered = threading.Event(), threading.Event()

    def answer(_: Outputs | Exception) -> None:
        answering.set()
        assert answered.wait(10)

    with bench("auto") as b:
        b.times.record(8, LONG_S)
        b.batcher.submit(numbered(0, 8), Call(), answer)
        b.turn.end()
        assert answering.wait(10)
        b.times.record(2, 0.9e-3)
        request = b.submit(numbered(10, 2))
        b.turn.end()
        request.check_own_rows()
        answered.set()
        b.wait_until_answered()
        assert b.seen.inline == [False, False]


def test_one_short_run_is_enough_to_know_that_they_are_short() -> None:
    with bench("auto") as b:
        b.times.record(2, LONG_S)
        b.times.record(2, 1e-6)
        b.submit(numbered(0, 2))
        b.turn.end()
        assert b.seen.inline == [True]


@pytest.mark.parametrize(("placement", "inline"), [("inline", True), ("thread", False)])
def test_the_option_decides_whatever_runs_take(placement: Placement, inline: bool) -> None:
    for seconds in (1e-6, LONG_S):
        with bench(placement) as b:
            b.times.record(1, seconds)
            request = b.submit(numbered(0, 1))
            b.turn.end()
            request.check_own_rows()
            assert (request.answered_by == threading.get_ident()) == inline
            assert b.seen.inline == [inline]


def test_a_wait_for_company_is_never_on_the_transports_thread() -> None:
    with bench("inline", max_delay_s=60) as b:
        first = b.submit(numbered(0, 4))
        b.turn.end()
        second = b.submit(numbered(4, 4))
        b.turn.end()
        first.check_own_rows()
        second.check_own_rows()
        assert b.seen.inline == [False]


def test_more_than_a_batch_is_run_in_one_turn() -> None:
    with bench() as b:
        requests = [b.submit(numbered(10 * i, 5)) for i in range(4)]
        assert b.turn.full
        b.turn.end()
        for request in requests:
            request.check_own_rows()
        assert b.engine.batches == [5, 5, 5, 5]
        assert b.seen.reasons == ["full", "full", "full", "idle"]


@pytest.mark.parametrize("placement", ["auto", "inline"])
def test_while_a_thread_runs_the_transport_neither_waits_nor_runs(placement: Placement) -> None:
    with ThreadPoolExecutor(1) as others, bench(placement) as b:
        b.times.record(4, 1e-6)  # short, and yet the engine is taken
        b.engine.hold()
        running = others.submit(b.submit, numbered(0, 1)).result(10)
        assert b.engine.started.acquire(timeout=10)
        waiting = b.submit(numbered(1, 4))
        b.turn.end()
        assert not waiting.outcomes
        assert b.batcher.queued_rows == 4
        b.engine.release()
        running.check_own_rows()
        waiting.check_own_rows()
        assert b.seen.inline == [False, False]
        assert not b.engine.met


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
