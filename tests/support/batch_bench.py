"""A batcher with one slot, on an engine that tests hold."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from support.engines import (
    Answer,
    FakeEngine,
    Recorder,
    host_buffers,
    occupied,
    submitted,
)
from vaeserve_server.batcher import Batcher
from vaeserve_server.call import Call, Floats
from vaeserve_server.engine import Slot
from vaeserve_server.packing import Packer
from vaeserve_server.run_times import RunTimes
from vaeserve_server.turn import Turn


class Bench:
    """A batcher with everything around it in the test's hand."""

    def __init__(
        self,
        max_rows: int = 8,
        max_queue_rows: int = 1000,
        max_delay_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.engine = FakeEngine()
        self.seen = Recorder()
        self.died = threading.Event()
        self.times = RunTimes()
        self.batcher = Batcher(
            [Slot(self.engine, Packer(host_buffers(max_rows), field="rows"))],
            name="bench",
            max_rows=max_rows,
            max_queue_rows=max_queue_rows,
            max_delay_s=max_delay_s,
            run_times=self.times,
            observer=self.seen,
            on_death=lambda _: self.died.set(),
            turn=Turn(),
            clock=clock,
        )

    def submit(self, rows: Floats, call: Call | None = None) -> Answer:
        return submitted(self.batcher, rows, call)

    def occupy(self) -> Answer:
        return occupied(self.engine, self.batcher)


@contextmanager
def bench(**settings: float | Callable[[], float]) -> Iterator[Bench]:
    made = Bench(**settings)  # type: ignore[arg-type]  # forwarded as they come
    try:
        yield made
    finally:
        made.engine.release()
        made.batcher.close(10)
    assert made.batcher.queued_rows == 0
    assert made.batcher.in_flight == 0
