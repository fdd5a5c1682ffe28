"""A batcher of several slots and devices, which are engines that tests hold."""

import time

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
from vaeserve_server.call import Floats
from vaeserve_server.engine import EngineLostError, Slot
from vaeserve_server.errors import Unavailable
from vaeserve_server.packing import Packer
from vaeserve_server.run_times import RunTimes
from vaeserve_server.turn import Turn


class Devices:
    """A batcher of several slots, each with an engine of its own."""

    def __init__(self, devices: list[int], max_rows: int = 4) -> None:
        self.engines = [FakeEngine() for _ in devices]
        self.causes: list[BaseException] = []
        slots = [
            Slot(engine, Packer(host_buffers(max_rows), field="rows"), device)
            for engine, device in zip(self.engines, devices, strict=True)
        ]
        self.seen = Recorder()
        self.batcher = Batcher(
            slots,
            name="devices",
            max_rows=max_rows,
            max_queue_rows=1000,
            max_delay_s=0.0,
            run_times=RunTimes(),
            observer=self.seen,
            on_death=self.causes.append,
            turn=Turn(),
        )
        for engine in self.engines:
            engine.hold()

    def submit(self, rows: Floats) -> Answer:
        return submitted(self.batcher, rows)

    def begun(self) -> list[int]:
        """Wait for one more run to begin; returns the rows of all runs of each engine."""
        before = sum(len(engine.batches) for engine in self.engines)
        end = time.monotonic() + 10
        while sum(len(engine.batches) for engine in self.engines) == before:
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
        b.begun()
    ran = [sum(engine.batches) for engine in b.engines]
    assert (ran[0] + ran[1], ran[2] + ran[3]) == (1, 1)
    b.close()
    for answer, rows in answers:
        check_own_rows(answer, rows)


def test_a_full_batch_is_packed_while_another_runs_and_a_small_one_waits_for_company() -> None:
    b = Devices([0, 0])
    running = b.submit(numbered(0, 1))
    b.begun()
    small = b.submit(numbered(1, 3))
    assert [engine.batches for engine in b.engines].count([]) == 1
    assert b.batcher.queued_rows == 3
    last = b.submit(numbered(4, 1))
    assert sorted(b.begun()) == [1, 4]
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


def test_what_is_packed_ahead_has_waited_until_the_device_was_free() -> None:
    """Run times are those of the device: two batches on it at once would count it twice."""
    b = Devices([0, 0])
    first = b.submit(numbered(0, 4))
    b.begun()
    second = b.submit(numbered(4, 4))
    b.begun()
    start = time.monotonic()
    time.sleep(0.2)  # what is measured
    b.close()
    check_own_rows(first, numbered(0, 4))
    check_own_rows(second, numbered(4, 4))
    assert time.monotonic() - start < 10
    assert sorted(wait > 0.1 for wait in b.seen.waits) == [False, True]


def test_a_lost_device_ends_the_batcher_and_tells_callers_to_go_elsewhere() -> None:
    b = Devices([0])
    lost = EngineLostError("CUDA failure 700")
    b.engines[0].failure = lambda _: lost
    running = b.submit(numbered(0, 1))
    b.begun()
    waiting = b.submit(numbered(1, 1))
    b.close()
    for answer in (running, waiting):
        error = answer.exception(10)
        assert isinstance(error, Unavailable)
        assert error.reason == "DRAINING"
    assert b.causes == [lost]


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
