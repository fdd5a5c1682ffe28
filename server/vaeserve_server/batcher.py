"""Requests of many callers become batches of one graph.

Knows rows, clocks and callbacks; no gRPC, no ONNX Runtime.

One thread owns the queue of one graph. It is work-conserving: it starts at once when the engine is
free, and the next batch grows while the engine is busy. Rows are counted, not requests; a request
is never split. Whatever happens to one request (cancelled, expired) or one batch (engine error)
touches nobody else.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np

from vaeserve_server.call import Call, Done, Floats, Outputs
from vaeserve_server.engine import Engine, EngineMemoryError
from vaeserve_server.errors import (
    DeadlineExceeded,
    OutOfMemory,
    Overloaded,
    ServiceError,
    Unavailable,
)
from vaeserve_server.row_queue import Batch, Item, RowQueue
from vaeserve_server.run_times import RunTimes

_log = logging.getLogger(__name__)


class Observer(Protocol):
    """Told what a batcher does, on its thread; `rejected` comes from any thread."""

    def ran(
        self, *, rows: int, padding: int, seconds: float, waits: list[float], close_reason: str
    ) -> None:
        """A batch was run: rows, padding rows added, run time, each request's time in the queue."""

    def rejected(self, reason: str) -> None:
        """A request was refused or dropped; `reason` is the ServiceError's."""


class Batcher:
    """The queue and the thread of one graph."""

    def __init__(
        self,
        engine: Engine,
        *,
        name: str,
        max_rows: int,
        max_queue_rows: int,
        max_delay_s: float,
        run_times: RunTimes,
        observer: Observer,
        on_death: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make the queue and start its thread.

        Args:
            engine: what runs a batch.
            name: of the thread, for stack dumps and logs.
            max_rows: most rows of a batch; no submitted request may have more.
            max_queue_rows: most rows that wait; more are refused.
            max_delay_s: longest wait for company while the engine is free, from the first item on.
            run_times: predicts run times; fed with every run.
            observer: told of batches and refusals.
            on_death: called once if the thread dies of a bug, so that readiness can go.
            clock: monotonic seconds.
        """
        self._engine = engine
        self._max_rows = max_rows
        self._max_queue_rows = max_queue_rows
        self._max_delay_s = max_delay_s
        self._run_times = run_times
        self._observer = observer
        self._on_death = on_death
        self._clock = clock
        self._queue = RowQueue()
        self._running: list[Item] = []
        self._closed = False
        self._dead = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    @property
    def queued_rows(self) -> int:
        """Rows that wait."""
        return self._queue.rows

    @property
    def in_flight(self) -> int:
        """Requests admitted and not yet answered."""
        return len(self._queue) + len(self._running)

    @property
    def closed(self) -> bool:
        """Whether new requests are refused."""
        return self._closed

    def submit(self, rows: Floats, call: Call, done: Done) -> None:
        """Admit a request, or refuse it before any work is done.

        Args:
            rows: float32 [n, ...], 1 <= n <= max_rows.
            call: deadline and cancellation.
            done: called once with the outputs, each [n, ...], or with the error.

        Raises:
            Unavailable: shutting down.
            Overloaded: the queue has no room.
            DeadlineExceeded: the answer could not be there in time.
        """
        try:
            with self._wake:
                now = self._clock()
                self._admit(len(rows), call, now)
                self._queue.push(Item(rows, call, done, now))
                self._wake.notify()
        except ServiceError as refusal:
            self._observer.rejected(refusal.reason)
            raise

    def close(self, timeout_s: float) -> None:
        """Refuse new requests, finish those admitted, end the thread."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join(timeout_s)

    def _admit(self, rows: int, call: Call, now: float) -> None:
        if self._dead:
            raise RuntimeError("the batcher has died; the log says of what")
        if self._closed:
            raise Unavailable("the server is shutting down", reason="DRAINING")
        waiting, running = self._queue.rows, sum(len(item.rows) for item in self._running)
        if waiting + rows > self._max_queue_rows:
            raise Overloaded(
                f"{waiting} rows wait already, at most {self._max_queue_rows} may",
                retry_after_s=self._predict(running) + self._predict(waiting),
            )
        if call.deadline is None:
            return
        if now >= call.deadline:
            raise DeadlineExceeded("the deadline had passed on arrival", reason="EXPIRED")
        if not (waiting or running):
            # The run starts at once: trying costs less than a prediction that may be stale.
            return
        wait = self._predict(running) + self._predict(waiting + rows)
        if now + wait > call.deadline:
            raise DeadlineExceeded(
                f"{waiting + running} rows are ahead, about {wait:.3f} s; "
                f"the deadline is in {call.deadline - now:.3f} s",
                reason="QUEUE_WAIT",
            )

    def _predict(self, rows: int) -> float:
        return self._run_times.predict(rows, self._max_rows)

    def _loop(self) -> None:
        try:
            while True:
                items, reason = self._next_batch()
                if not items:
                    return
                self._run(items, reason)
                self._running = items = []  # an idle batcher holds nobody's rows
        except BaseException:
            # Only a bug gets here. Nobody may be left waiting for a dead thread.
            _log.critical("batcher thread died", exc_info=True)
            with self._wake:
                self._closed = self._dead = True
                left = [*self._running, *self._queue.clear()]
                self._running = []
            for item in left:
                item.finish(RuntimeError("the batcher died"))
            self._on_death()
            raise

    def _next_batch(self) -> tuple[list[Item], str]:
        """Wait for live requests and take what fits; none means closed and empty."""
        while True:
            with self._wake:
                while not self._queue and not self._closed:
                    self._wake.wait()
                timed_out = self._wait_for_company()
                batch = self._queue.take(self._max_rows, self._clock())
                self._running = batch.items
                finished = self._closed and not self._queue
            for item, error in batch.dropped:
                self._drop(item, error)
            if batch.items or finished:
                return batch.items, _close_reason(batch, timed_out)

    def _wait_for_company(self) -> bool:
        """Hold a small batch back for max_delay_s from its first item; True if time ran out."""
        if not self._max_delay_s or not self._queue:
            return False
        while self._queue.rows < self._max_rows and not self._closed:
            start_by = self._queue.earliest_deadline() - self._predict(self._queue.rows)
            left = min(self._queue.oldest() + self._max_delay_s, start_by) - self._clock()
            if left <= 0:
                return True
            self._wake.wait(left)
        return False

    def _run(self, items: list[Item], reason: str) -> None:
        outcome = self._run_rows(items, reason)
        if isinstance(outcome, EngineMemoryError) and len(items) > 1:
            half = len(items) // 2
            for part in (items[:half], items[half:]):
                self._scatter(part, self._run_rows(part, reason))
        else:
            self._scatter(items, outcome)

    def _run_rows(self, items: list[Item], reason: str) -> Outputs | Exception:
        start = self._clock()
        try:
            one = len(items) == 1
            rows = items[0].rows if one else np.concatenate([item.rows for item in items])
            outputs = self._engine.run(rows)
        except Exception as error:  # noqa: BLE001  goes to exactly this batch's callers
            return error
        seconds = self._clock() - start
        self._run_times.record(len(rows), seconds)
        self._observer.ran(
            rows=len(rows),
            padding=self._engine.bucket(len(rows)) - len(rows),
            seconds=seconds,
            waits=[start - item.enqueued for item in items],
            close_reason=reason,
        )
        return outputs

    def _scatter(self, items: list[Item], outcome: Outputs | Exception) -> None:
        """Give each request its own rows, or all of them the error."""
        if isinstance(outcome, EngineMemoryError):
            outcome = OutOfMemory(f"{outcome}; send fewer rows")
        begin = 0
        now = self._clock()
        for item in items:
            end = begin + len(item.rows)
            gone = item.gone(now)
            if gone is not None:
                self._drop(item, gone)
            elif isinstance(outcome, ServiceError):
                self._drop(item, outcome)
            elif isinstance(outcome, Exception):
                item.finish(outcome)
            else:
                item.finish(tuple(output[begin:end] for output in outcome))
            begin = end

    def _drop(self, item: Item, error: ServiceError) -> None:
        item.finish(error)
        self._observer.rejected(error.reason)


def _close_reason(batch: Batch, timed_out: bool) -> str:
    if batch.full:
        return "full"
    return "timeout" if timed_out else "idle"
