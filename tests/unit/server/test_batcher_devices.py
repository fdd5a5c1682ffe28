"""A batcher of several slots and devices, which are engines that tests hold."""

import time

import pytest
from hypothesis import given, settings, strategies as st

from support.engines import (
    Answer,
    FakeEngine,
    Recorder,
    check_own_rows,
    host_buffers,
    numbered,
    submitted,
)
from vaeserve_server.batcher import Batcher
from vaeserve_server.call import Call, Floats
from vaeserve_server.engine import EngineLostError, Slot
from vaeserve_server.errors import DeadlineExceeded, Unavailable
from vaeserve_server.packing import Packer
from vaeserve_server.run_times import RunTimes
from vaeserve_server.turn import Turn


class Devices:
    """A batcher of several slots, each with an engine of its own."""

    def __init__(self, devices: list[int], max_rows: int = 4, turn: Turn | None = None) -> None:
        self.engines = [FakeEngine() for _ in devices]
        self.causes: list[BaseException] = []
        slots = [
            Slot(engine, Packer(host_buffers(max_rows), field="rows"), device)
            for engine, device in zip(self.engines, devices, strict=True)
        ]
        self.seen = Recorder()
        self.times = RunTimes()
        self.batcher = Batcher(
            slots,
            name="devices",
            max_rows=max_rows,
            max_queue_rows=1000,
            max_delay_s=0.0,
            run_times=self.times,
            observer=self.seen,
            on_death=self.causes.append,
            turn=turn or Turn(),
            placement="thread",
        )
        for engine in self.engines:
            engine.hold()

    def submit(self, rows: Floats, call: Call | None = None) -> Answer:
        return submitted(self.batcher, rows, call)

    def begun(self, runs: int) -> list[int]:
        """Wait until so many runs have begun; returns the rows of all runs of each engine."""
        end = time.monotonic() + 10
        while sum(len(engine.batches) for engine in self.engines) < runs:
            assert time.monotonic() < end, "no run began"
            time.sleep(0.001)
        return [sum(engine.batches) for engine in self.engines]

    def close(self) -> None:
        for engine in self.engines:
            engine.release()
        self.batcher.close(10)


def test_devices_share_one_queue() -> None:
    """A device that is free takes what waits, whatever the other does."""
    b = Devices([0, 0, 1, 1])
    answers = []
    for first in range(2):
        answers.append((b.submit(numbered(first, 1)), numbered(first, 1)))
        ran = b.begun(first + 1)
    assert (ran[0] + ran[1], ran[2] + ran[3]) == (1, 1)
    b.close()
    for answer, rows in answers:
        check_own_rows(answer, rows)


def test_a_full_batch_is_packed_while_another_runs_and_a_small_one_waits_for_company() -> None:
    b = Devices([0, 0])
    running = b.submit(numbered(0, 1))
    b.begun(1)
    small = b.submit(numbered(1, 3))
    assert [engine.batches for engine in b.engines].count([]) == 1
    assert b.batcher.queued_rows == 3
    last = b.submit(numbered(4, 1))
    assert sorted(b.begun(2)) == [1, 4]
    third = b.submit(numbered(5, 4))
    assert b.batcher.queued_rows == 4  # both slots are busy
    b.close()
    for answer, rows in (
        (running, numbered(0, 1)),
        (small, numbered(1, 3)),
        (last, numbered(4, 1)),
        (third, numbered(5, 4)),
    ):
        check_own_rows(answer, rows)


def test_a_wait_for_the_device_is_no_run_time() -> None:
    """Others computed meanwhile: counted as this graph's time it would be predicted for ever."""
    b = Devices([0])
    b.engines[0].waited_s = 1000.0
    start = time.monotonic()
    answer = b.submit(numbered(0, 4))
    b.begun(1)
    b.close()
    check_own_rows(answer, numbered(0, 4))
    assert b.times.predict(4, 4) == 0.0
    assert b.seen.waits[0] > 999 - (time.monotonic() - start)


def test_a_burst_of_one_turn_reaches_every_device() -> None:
    """The transport's thread wakes one thread at the end of its turn, which must wake the next."""
    turn = Turn()
    turn.own()
    b = Devices([0, 0, 1, 1], turn=turn)
    answers = [(b.submit(numbered(4 * at, 4)), numbered(4 * at, 4)) for at in range(4)]
    turn.end()
    b.begun(4)
    assert [engine.batches for engine in b.engines] == [[4]] * 4
    b.close()
    for answer, rows in answers:
        check_own_rows(answer, rows)


def test_a_free_device_takes_a_request_whatever_the_others_do() -> None:
    b = Devices([0, 1])
    b.times.record(4, 1000.0)
    first = b.submit(numbered(0, 4))
    b.begun(1)
    second = b.submit(numbered(4, 4), Call(deadline=time.monotonic() + 60))
    b.begun(2)
    with pytest.raises(DeadlineExceeded, match=r"about \d+"):
        b.submit(numbered(8, 4), Call(deadline=time.monotonic() + 60))
    b.close()
    check_own_rows(first, numbered(0, 4))
    check_own_rows(second, numbered(4, 4))


def test_a_lost_device_ends_the_batcher_and_tells_callers_to_go_elsewhere() -> None:
    b = Devices([0])
    lost = EngineLostError("CUDA failure 700")
    b.engines[0].failure = lambda _: lost
    running = b.submit(numbered(0, 1))
    b.begun(1)
    waiting = b.submit(numbered(1, 1))
    b.close()
    for answer in (running, waiting):
        error = answer.exception(10)
        assert isinstance(error, Unavailable)
        assert error.reason == "DRAINING"
    assert b.causes == [lost]
    with pytest.raises(Unavailable, match="device has failed"):
        b.submit(numbered(2, 1))


@settings(deadline=None, max_examples=40)
@given(
    requests=st.lists(st.integers(1, 4), min_size=1, max_size=30),
    devices=st.sampled_from([[0, 0], [0, 1], [0, 0, 1, 1], [0, 1, 2]]),
)
def test_several_slots_answer_every_caller_with_its_own_rows(
    requests: list[int], devices: list[int]
) -> None:
    b = Devices(devices)
    answers, first = [], 0
    for count in requests:
        answers.append((b.submit(numbered(first, count)), numbered(first, count)))
        first += count
    for engine in b.engines:
        engine.release()
    for answer, rows in answers:
        check_own_rows(answer, rows)
    b.close()
    assert sum(sum(engine.batches) for engine in b.engines) == sum(requests)
