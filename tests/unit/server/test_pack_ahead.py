"""Two slots that share one engine: what is packed and answered while it runs."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from support.engines import (
    Answer,
    Clock,
    check_own_rows,
    numbered,
)
from support.pack_bench import MAX_ROWS, PATIENCE_S, bench
from vaeserve_server.call import Call, Floats, Outputs
from vaeserve_server.errors import Cancelled, DeadlineExceeded, InvalidArgument


def test_a_full_batch_is_packed_while_the_engine_runs() -> None:
    with bench() as b:
        first = b.occupy()
        second = b.submit(numbered(0, MAX_ROWS))
        b.wait_until_packed(1, MAX_ROWS)
        third = b.submit(numbered(10, MAX_ROWS))
        assert b.batcher.queued_rows == 2 * MAX_ROWS  # no slot is free; what is packed waits, too
        assert b.engine.batches == [1]
        b.engine.release()
        for answer, rows in (
            (first, numbered(-1, 1)),
            (second, numbered(0, MAX_ROWS)),
            (third, numbered(10, MAX_ROWS)),
        ):
            check_own_rows(answer, rows)
        assert b.engine.batches == [1, MAX_ROWS, MAX_ROWS]


def test_a_smaller_batch_grows_until_the_run_is_nearly_over() -> None:
    clock = Clock()
    with bench(clock=clock) as b:
        b.times.record(1, 10.0)
        b.occupy()
        early = b.submit(numbered(0, 1))
        clock.now += 7.4
        late = b.submit(numbered(1, 1))
        assert b.packed == [1]
        clock.now += 0.2
        last = b.submit(numbered(2, 1))
        b.wait_until_packed(1, 3)
        assert b.engine.batches == [1]
        b.engine.release()
        for number, answer in enumerate((early, late, last)):
            check_own_rows(answer, numbered(number, 1))
        assert b.engine.batches == [1, 3]


def test_who_leaves_after_packing_is_not_run() -> None:
    clock = Clock()
    with bench(clock=clock) as b:
        b.times.record(1, 10.0)  # all four are packed together
        b.occupy()
        leaver, late = Call(), Call(deadline=clock.now + 100)
        answers = [
            b.submit(numbered(number, 1), call)
            for number, call in enumerate((leaver, Call(), late, Call()))
        ]
        b.wait_until_packed(1, 4)
        leaver.cancelled = True
        clock.now += 100
        b.engine.release()
        assert isinstance(answers[0].exception(PATIENCE_S), Cancelled)
        assert isinstance(answers[2].exception(PATIENCE_S), DeadlineExceeded)
        for number in (1, 3):
            check_own_rows(answers[number], numbered(number, 1))
        assert b.engine.batches == [1, 2]
        assert sorted(b.seen.rejections) == ["CANCELLED", "EXPIRED"]


def test_a_batch_that_everybody_left_is_not_run() -> None:
    with bench() as b:
        b.times.record(1, 10.0)
        running = b.occupy()
        calls = [Call() for _ in range(MAX_ROWS)]
        answers = [b.submit(numbered(number, 1), call) for number, call in enumerate(calls)]
        b.wait_until_packed(1, MAX_ROWS)
        for call in calls:
            call.cancelled = True
        b.engine.release()
        for answer in answers:
            assert isinstance(answer.exception(PATIENCE_S), Cancelled)
        check_own_rows(running, numbered(-1, 1))
        assert b.engine.batches == [1]


def test_a_small_batch_grows_on_while_a_run_takes_longer_than_predicted() -> None:
    with bench() as b:
        running = b.occupy()  # predicted to take no time
        early = b.submit(numbered(0, 1))
        b.wait_until_packed(1, 1)
        gone = Call()
        leaver, late = b.submit(numbered(1, 1), gone), b.submit(numbered(2, 2))
        gone.cancelled = True
        assert b.batcher.queued_rows == 4
        b.engine.release()
        check_own_rows(running, numbered(-1, 1))
        check_own_rows(early, numbered(0, 1))
        check_own_rows(late, numbered(2, 2))
        assert isinstance(leaver.exception(PATIENCE_S), Cancelled)
        assert b.engine.batches == [1, 3]
        assert b.seen.rejections == ["CANCELLED"]


def test_nobody_has_to_come_for_a_batch_to_be_packed_in_time() -> None:
    with bench() as b:
        b.times.record(1, 0.05)
        b.occupy()
        waiting = b.submit(numbered(0, 1))
        b.wait_until_packed(1, 1)
        assert b.engine.batches == [1]
        b.engine.release()
        check_own_rows(waiting, numbered(0, 1))


def test_who_came_before_the_run_began_is_packed_in_time_too() -> None:
    with bench() as b:
        b.times.record(1, 0.05)
        b.engine.hold()
        for packer in b.packers:
            packer.gate.clear()
        first = b.submit(numbered(0, 1))
        b.wait_until_packed(1)
        second = b.submit(numbered(1, 1))
        for packer in b.packers:
            packer.gate.set()
        b.wait_until_packed(1, 1)
        assert b.engine.batches == [1]
        b.engine.release()
        check_own_rows(first, numbered(0, 1))
        check_own_rows(second, numbered(1, 1))


def test_callers_are_answered_while_the_next_batch_runs() -> None:
    """And it runs on the thread of the one before: a change of threads would be a gap."""
    second_may_end = threading.Event()

    def hold_second(rows: Floats) -> None:
        assert rows[0, 0] < 0 or second_may_end.wait(PATIENCE_S)

    with bench() as b:
        b.engine.failure = hold_second
        first = b.occupy()
        second = b.submit(numbered(0, MAX_ROWS))
        b.wait_until_packed(1, MAX_ROWS)
        b.engine.release()
        check_own_rows(first, numbered(-1, 1))
        assert not second.done()
        second_may_end.set()
        check_own_rows(second, numbered(0, MAX_ROWS))
        assert len(set(b.engine.threads)) == 1


def test_what_others_packed_while_the_transports_thread_ran_is_run_after_it() -> None:
    with ThreadPoolExecutor(1) as others, bench(placement="inline") as b:
        b.turn.own()
        answers: list[Answer] = []

        def another_comes(rows: Floats) -> None:
            if not answers:
                answers.append(others.submit(b.submit, numbered(1, MAX_ROWS)).result(PATIENCE_S))
                b.wait_until_packed(1, MAX_ROWS)

        b.engine.failure = another_comes
        own = b.submit(numbered(0, 1))
        b.turn.end()
        check_own_rows(own, numbered(0, 1))
        check_own_rows(answers[0], numbered(1, MAX_ROWS))


def test_a_slow_callback_delays_its_own_batch_only() -> None:
    entered, may_go_on = threading.Event(), threading.Event()
    with bench() as b:

        def slow(_: Outputs | Exception) -> None:
            entered.set()
            assert may_go_on.wait(PATIENCE_S)

        b.batcher.submit(numbered(0, 1), Call(), slow)
        try:
            assert entered.wait(PATIENCE_S)
            for number in range(1, 10):
                check_own_rows(b.submit(numbered(number, 1)), numbered(number, 1))
        finally:
            may_go_on.set()


def test_a_lone_batch_stays_with_one_thread() -> None:
    with bench() as b:
        threads = []
        answered = threading.Event()

        def done(_: Outputs | Exception) -> None:
            threads.append(threading.get_ident())
            answered.set()

        b.batcher.submit(numbered(0, 1), Call(), done)
        assert answered.wait(PATIENCE_S)
        assert threads == b.engine.threads


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_leaves_nobody_waiting_whose_batch_is_packed_or_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with bench() as b:
        running = b.occupy()
        packed = b.submit(numbered(0, MAX_ROWS))
        b.wait_until_packed(1, MAX_ROWS)
        queued = b.submit(numbered(10, 1))

        def computed(_: Outputs) -> None:
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(b.seen, "computed", computed)
        b.engine.release()
        for answer in (running, packed, queued):
            assert isinstance(answer.exception(PATIENCE_S), RuntimeError)
        assert b.died.is_set()
        with pytest.raises(RuntimeError, match="has died"):
            b.submit(numbered(0, 1))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_after_a_bug_what_was_packed_waits_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()

    def computed(_: Outputs) -> None:
        raise ZeroDivisionError("a bug")

    def wait(rows: Floats) -> None:
        assert len(rows) == 1 or gate.wait(PATIENCE_S)

    with bench() as b:
        b.occupy()
        b.submit(numbered(0, MAX_ROWS))
        b.wait_until_packed(1, MAX_ROWS)
        packed = b.submit(numbered(10, MAX_ROWS))
        monkeypatch.setattr(b.seen, "computed", computed)
        b.engine.failure = wait
        # The first run ends, the second waits at the gate, the third batch is packed; then the
        # first is answered.
        b.engine.release()
        assert isinstance(packed.exception(PATIENCE_S), RuntimeError)
        assert b.batcher.queued_rows == 0
        gate.set()


@settings(deadline=None, max_examples=60)
@given(requests=st.lists(st.tuples(st.integers(1, MAX_ROWS), st.booleans()), max_size=40))
def test_every_caller_gets_its_own_rows_or_its_own_error(
    requests: list[tuple[int, bool]],
) -> None:
    with bench() as b:
        b.occupy()
        answers, first = [], 0
        for count, unsound in requests:
            rows = numbered(first, count)
            if unsound:
                rows[-1, -1] = np.nan
            answers.append((b.submit(rows), rows))
            first += count
        b.engine.release()
        for answer, rows in answers:
            if np.isfinite(rows).all():
                check_own_rows(answer, rows)
            else:
                assert isinstance(answer.exception(PATIENCE_S), InvalidArgument)
