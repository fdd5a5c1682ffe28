"""Two slots that share one engine: what is packed and answered while it runs."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from support.engines import (
    Answer,
    Clock,
    Recorder,
    WatchedEngine,
    check_own_rows,
    host_buffers,
    numbered,
    submitted,
)
from vaeserve_server.batcher import Batcher
from vaeserve_server.call import Array, Call, Floats, Outputs, Rows
from vaeserve_server.engine import Slot
from vaeserve_server.errors import InvalidArgument
from vaeserve_server.packing import Packer
from vaeserve_server.run_times import RunTimes
from vaeserve_server.turn import Turn

MAX_ROWS = 4
PATIENCE_S = 10


class HeldPacker(Packer):
    """Can be held while it packs."""

    def __init__(self) -> None:
        super().__init__(host_buffers(MAX_ROWS), field="rows")
        self.packing = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()

    def pack(self, parts: Sequence[Rows]) -> Array:
        self.packing.release()
        assert self.gate.wait(PATIENCE_S)
        return super().pack(parts)


class Bench:
    """The batcher as it is on a CPU, and an engine and packers that tests hold."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.engine = WatchedEngine()
        self.times = RunTimes()
        self.seen = Recorder()
        self.died = threading.Event()
        self.packers = [HeldPacker(), HeldPacker()]
        self.batcher = Batcher(
            [Slot(self.engine, packer) for packer in self.packers],
            name="bench",
            max_rows=MAX_ROWS,
            max_queue_rows=1000,
            max_delay_s=0.0,
            run_times=self.times,
            observer=self.seen,
            on_death=lambda _: self.died.set(),
            turn=Turn(),
            placement="thread",
            clock=clock,
        )

    def submit(self, rows: Floats) -> Answer:
        return submitted(self.batcher, rows)

    def occupy(self) -> Answer:
        """Keep the engine busy with a row of its own until released."""
        self.engine.hold()
        answer = self.submit(numbered(-1, 1))
        assert self.engine.started.acquire(timeout=PATIENCE_S)
        return answer

    def wait_until_queued(self, rows: int) -> None:
        end = time.monotonic() + PATIENCE_S
        while self.batcher.queued_rows != rows:
            assert time.monotonic() < end, f"{self.batcher.queued_rows} rows wait, not {rows}"
            time.sleep(0.001)


@contextmanager
def bench(**settings: Callable[[], float]) -> Iterator[Bench]:
    made = Bench(**settings)
    try:
        yield made
    finally:
        made.engine.release()
        made.batcher.close(PATIENCE_S)
    assert made.batcher.queued_rows == 0
    assert made.batcher.in_flight == 0
    assert not made.engine.met


def test_a_full_batch_is_packed_while_the_engine_runs() -> None:
    with bench() as b:
        first = b.occupy()
        second = b.submit(numbered(0, MAX_ROWS))
        b.wait_until_queued(0)
        third = b.submit(numbered(10, MAX_ROWS))
        assert b.batcher.queued_rows == MAX_ROWS  # no slot is free
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
        assert b.batcher.queued_rows == 2
        clock.now += 0.2
        last = b.submit(numbered(2, 1))
        b.wait_until_queued(0)
        assert b.engine.batches == [1]
        b.engine.release()
        for number, answer in enumerate((early, late, last)):
            check_own_rows(answer, numbered(number, 1))
        assert b.engine.batches == [1, 3]


def test_nobody_has_to_come_for_a_batch_to_be_packed_in_time() -> None:
    with bench() as b:
        b.times.record(1, 0.05)
        b.occupy()
        waiting = b.submit(numbered(0, 1))
        b.wait_until_queued(0)
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
        assert any(packer.packing.acquire(timeout=PATIENCE_S / 2) for packer in b.packers[::-1])
        second = b.submit(numbered(1, 1))
        for packer in b.packers:
            packer.gate.set()
        b.wait_until_queued(0)
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
        b.wait_until_queued(0)
        b.engine.release()
        check_own_rows(first, numbered(-1, 1))
        assert not second.done()
        second_may_end.set()
        check_own_rows(second, numbered(0, MAX_ROWS))
        assert len(set(b.engine.threads)) == 1


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
        b.wait_until_queued(0)
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
