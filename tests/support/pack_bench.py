"""A batcher with two slots on one engine; tests hold the engine and the packers."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from support.engines import (
    Answer,
    Recorder,
    WatchedEngine,
    host_buffers,
    occupied,
    submitted,
)
from vaeserve_server.batcher import Batcher
from vaeserve_server.call import Array, Call, Floats, Rows
from vaeserve_server.config import Placement
from vaeserve_server.engine import Slot
from vaeserve_server.packing import Packer
from vaeserve_server.run_times import RunTimes
from vaeserve_server.turn import Turn

MAX_ROWS = 4
PATIENCE_S = 10


class HeldPacker(Packer):
    """Tells what it packs, and can be held meanwhile."""

    def __init__(self) -> None:
        super().__init__(host_buffers(MAX_ROWS), field="rows")
        self.begun: list[int] = []
        self.gate = threading.Event()
        self.gate.set()

    def pack(self, parts: Sequence[Rows]) -> Array:
        self.begun.append(sum(map(len, parts)))
        assert self.gate.wait(PATIENCE_S)
        return super().pack(parts)


class Bench:
    """The batcher as it is on a CPU, and an engine and packers that tests hold."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, placement: Placement = "thread"
    ) -> None:
        self.turn = Turn()
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
            turn=self.turn,
            placement=placement,
            clock=clock,
        )

    def submit(self, rows: Floats, call: Call | None = None) -> Answer:
        return submitted(self.batcher, rows, call)

    def occupy(self) -> Answer:
        return occupied(self.engine, self.batcher)

    @property
    def packed(self) -> list[int]:
        """Rows of the batches that were packed or are being packed, in some order."""
        return sorted(rows for packer in self.packers for rows in packer.begun)

    def wait_until_packed(self, *rows: int) -> None:
        end = time.monotonic() + PATIENCE_S
        while self.packed != sorted(rows):
            assert time.monotonic() < end, f"batches of {self.packed} rows were packed, not {rows}"
            time.sleep(0.001)


@contextmanager
def bench(
    clock: Callable[[], float] = time.monotonic, placement: Placement = "thread"
) -> Iterator[Bench]:
    made = Bench(clock, placement)
    try:
        yield made
    finally:
        made.engine.release()
        made.batcher.close(PATIENCE_S)
    assert made.batcher.queued_rows == 0
    assert made.batcher.in_flight == 0
    assert not made.engine.met
