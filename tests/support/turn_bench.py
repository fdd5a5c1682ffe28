"""A batcher, the test's thread as the transport's, and callers who note what they are told."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from support.engines import (
    Clock,
    Recorder,
    WatchedEngine,
    host_buffers,
)
from vaeserve_server.batcher import Batcher
from vaeserve_server.call import Call, Floats, Outputs
from vaeserve_server.config import Placement
from vaeserve_server.engine import Slot
from vaeserve_server.errors import (
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
