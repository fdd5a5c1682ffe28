"""Which batches run on the transport's own thread."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.engines import (
    numbered,
)
from support.turn_bench import LONG_S, bench
from vaeserve_server.call import Call, Done, Outputs
from vaeserve_server.config import Placement


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
