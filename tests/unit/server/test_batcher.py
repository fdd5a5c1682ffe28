"""A batcher with everything around it in the test's hand."""

import time

import pytest
from hypothesis import given, settings, strategies as st

from support.batch_bench import bench
from support.engines import (
    Clock,
    check_own_rows,
    numbered,
    out_of_memory_above,
)
from vaeserve_server.call import Call, Floats, Outputs
from vaeserve_server.errors import (
    Cancelled,
    DeadlineExceeded,
    OutOfMemory,
    Unavailable,
)


@settings(deadline=None, max_examples=60)
@given(
    requests=st.lists(st.tuples(st.integers(1, 8), st.booleans(), st.booleans()), max_size=25),
    busy=st.booleans(),
)
def test_every_caller_gets_its_own_rows_whatever_the_others_do(
    requests: list[tuple[int, bool, bool]], busy: bool
) -> None:
    with bench() as b:
        if busy:
            b.occupy()
        answers = []
        first = 0
        for count, cancel, expire in requests:
            rows = numbered(first, count)
            call = Call(deadline=time.monotonic() + 60)
            answers.append((b.submit(rows, call), rows, call, cancel, expire))
            first += count
        for _, _, call, cancel, expire in answers:
            call.cancelled = cancel and busy
            if expire and busy:
                call.deadline = 0.0
        b.engine.release()
        for answer, rows, call, _, _ in answers:
            if call.deadline == 0.0:
                assert isinstance(answer.exception(10), DeadlineExceeded)
            elif call.cancelled:
                assert isinstance(answer.exception(10), Cancelled)
            else:
                check_own_rows(answer, rows)
        assert all(size <= 8 for size in b.engine.batches)


def test_a_batch_grows_while_the_engine_is_busy() -> None:
    with bench(max_rows=8) as b:
        b.occupy()
        answers = [b.submit(numbered(10 * i, 2)) for i in range(5)]
        b.engine.release()
        for i, answer in enumerate(answers):
            check_own_rows(answer, numbered(10 * i, 2))
        assert b.engine.batches == [1, 8, 2]
        assert b.seen.reasons == ["idle", "full", "idle"]


def test_a_request_is_never_split_to_fill_a_batch() -> None:
    with bench(max_rows=8) as b:
        b.occupy()
        answers = [b.submit(numbered(0, 5)), b.submit(numbered(5, 5))]
        b.engine.release()
        for answer in answers:
            answer.result(10)
        assert b.engine.batches == [1, 5, 5]


def test_a_request_that_expires_in_the_queue_is_never_run() -> None:
    clock = Clock()
    with bench(clock=clock) as b:
        b.occupy()
        late = b.submit(numbered(0, 2), Call(deadline=clock.now + 1))
        kept = b.submit(numbered(2, 3))
        clock.now += 2
        b.engine.release()
        assert isinstance(late.exception(10), DeadlineExceeded)
        check_own_rows(kept, numbered(2, 3))
        assert b.engine.batches == [1, 3]
        assert b.seen.rejections == ["EXPIRED"]


def test_a_caller_that_leaves_during_the_run_takes_nobody_along() -> None:
    with bench() as b:
        b.occupy()
        leaver = Call()
        gone, kept = b.submit(numbered(0, 2), leaver), b.submit(numbered(2, 2))

        def leave(rows: Floats) -> None:
            leaver.cancelled = len(rows) == 4

        b.engine.failure = leave
        b.engine.release()
        assert isinstance(gone.exception(10), Cancelled)
        check_own_rows(kept, numbered(2, 2))
        assert b.engine.batches == [1, 4]


def test_a_failing_batch_fails_exactly_its_own_callers() -> None:
    with bench(max_rows=4) as b:
        b.engine.failure = lambda rows: ValueError("bad row") if (rows == 2).any() else None
        b.occupy()
        good, bad, later = (b.submit(numbered(first, 4)) for first in (100, 0, 200))
        b.engine.release()
        check_own_rows(good, numbered(100, 4))
        with pytest.raises(ValueError, match="bad row"):
            bad.result(10)
        check_own_rows(later, numbered(200, 4))


def test_out_of_memory_is_split_once() -> None:
    with bench(max_rows=8) as b:
        b.engine.failure = out_of_memory_above(4)
        b.occupy()
        answers = [b.submit(numbered(4 * i, 4)) for i in range(2)]
        b.engine.release()
        for i, answer in enumerate(answers):
            check_own_rows(answer, numbered(4 * i, 4))
        assert b.engine.batches == [1, 8, 4, 4]


def test_out_of_memory_for_half_the_batch_reaches_the_caller() -> None:
    with bench(max_rows=8) as b:
        b.engine.failure = out_of_memory_above(2)
        b.occupy()
        answers = [b.submit(numbered(0, 4)), b.submit(numbered(4, 2))]
        b.engine.release()
        assert isinstance(answers[0].exception(10), OutOfMemory)
        check_own_rows(answers[1], numbered(4, 2))


def test_closing_finishes_what_was_admitted_and_refuses_the_rest() -> None:
    with bench() as b:
        b.occupy()
        kept = b.submit(numbered(0, 3))
        b.batcher.close(0)
        with pytest.raises(Unavailable) as refusal:
            b.submit(numbered(3, 1))
        assert refusal.value.reason == "DRAINING"
        b.engine.release()
        b.batcher.close(10)
        check_own_rows(kept, numbered(0, 3))


def test_draining_refuses_calls_that_were_not_begun() -> None:
    with bench() as b:
        b.batcher.drain()
        with pytest.raises(Unavailable) as refusal:
            b.submit(numbered(0, 1))
        assert refusal.value.reason == "DRAINING"
        check_own_rows(b.submit(numbered(1, 2), Call(begun=True)), numbered(1, 2))
        b.batcher.close(10)
        with pytest.raises(Unavailable):
            b.submit(numbered(3, 1), Call(begun=True))


def test_company_is_awaited_until_the_batch_is_full() -> None:
    with bench(max_rows=4, max_delay_s=60) as b:
        first = b.submit(numbered(0, 2))
        second = b.submit(numbered(2, 2))
        check_own_rows(first, numbered(0, 2))
        check_own_rows(second, numbered(2, 2))
        assert b.engine.batches == [4]
        assert b.seen.reasons == ["full"]


def test_company_is_awaited_no_longer_than_told() -> None:
    with bench(max_rows=4, max_delay_s=0.01) as b:
        check_own_rows(b.submit(numbered(0, 2)), numbered(0, 2))
        assert b.seen.reasons == ["timeout"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_thread_is_noticed_and_leaves_nobody_waiting() -> None:
    with bench() as b:
        b.engine.failure = lambda _: SystemExit("a bug")
        running = b.occupy()
        waiting = b.submit(numbered(0, 1))
        b.engine.release()
        assert b.died.wait(10)
        assert isinstance(running.exception(10), RuntimeError)
        assert isinstance(waiting.exception(10), RuntimeError)
        with pytest.raises(RuntimeError, match="has died"):
            b.submit(numbered(1, 1))


def test_a_reply_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Outputs | Exception) -> None:
        raise ZeroDivisionError

    with bench() as b:
        b.occupy()
        b.batcher.submit(numbered(0, 1), Call(), broken)
        kept = b.submit(numbered(1, 1))
        b.engine.release()
        check_own_rows(kept, numbered(1, 1))
    assert "a reply failed" in caplog.text
