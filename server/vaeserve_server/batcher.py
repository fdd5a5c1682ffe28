"""Requests of many callers become batches of one graph.

Knows rows, clocks and callbacks; no gRPC, no ONNX Runtime.

Batching is work-conserving: a batch starts at once when the engine is free, and the next one grows
while it is busy. Rows are counted, not requests; a request is never split. Whatever happens to one
request (cancelled, expired, not finite) or one batch (engine error) touches nobody else.

A batch runs where it costs least. The transport's thread runs short ones itself at the end of its
turn (`pump`): handing them over would take longer than running them. Long ones go to the graph's
own threads, which take turns: while one answers its callers, another runs the next batch.

Several devices share one queue: whichever is free takes the next batch. A device with two slots
takes a second batch while it computes, if a full one waits: that is packed and copied meanwhile.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from vaeserve_server.call import Call, Done, Rows
from vaeserve_server.config import Placement
from vaeserve_server.engine import EngineLostError, EngineMemoryError, Slot
from vaeserve_server.errors import DeadlineExceeded, Overloaded, ServiceError, Unavailable
from vaeserve_server.row_queue import Batch, Item, RowQueue
from vaeserve_server.run_times import RunTimes
from vaeserve_server.runner import Crew, Observer, Runner, end_of
from vaeserve_server.turn import Turn

_log = logging.getLogger(__name__)

# Below this a batch runs on the transport's thread: handing over costs two wake-ups, and then both
# threads want the interpreter. Measured in docs/performance.md.
_HAND_OVER_S = 400e-6

_LEAST_THREADS = 2


class Batcher:
    """The queue of one graph, and who runs it."""

    def __init__(
        self,
        slots: Sequence[Slot],
        *,
        name: str,
        max_rows: int,
        max_queue_rows: int,
        max_delay_s: float,
        run_times: RunTimes,
        observer: Observer,
        on_death: Callable[[BaseException], None],
        turn: Turn,
        placement: Placement = "auto",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make the queue and start its threads.

        Args:
            slots: what runs a batch each; one or two a device.
            name: MODEL-GRAPH; of the threads, for stack dumps and logs, and in timings.
            max_rows: most rows of a batch; no submitted request may have more.
            max_queue_rows: most rows that wait; more are refused.
            max_delay_s: longest wait for company while a device is free, from the first item on.
            run_times: predicts run times; fed with every run.
            observer: told of batches and refusals.
            on_death: called once, with the cause, if a thread dies of a bug or a device is lost, so
                that readiness can go.
            turn: the transport's turn, whose thread may run short batches.
            placement: where batches run; `auto` goes by measured run times.
            clock: monotonic seconds.
        """
        runner = partial(Runner, name=name, run_times=run_times, observer=observer, clock=clock)
        self._crew = Crew([runner(slot) for slot in slots])
        self._max_rows = max_rows
        self._max_queue_rows = max_queue_rows
        self._max_delay_s = max_delay_s
        self._run_times = run_times
        self._observer = observer
        self._on_death = on_death
        self._turn = turn
        self._inline_below_s = {"auto": _HAND_OVER_S, "inline": math.inf, "thread": -1.0}[placement]
        self._clock = clock
        self._queue = RowQueue()
        self._unanswered = 0
        self._closed = False
        self._cause: BaseException | None = None
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._threads = [
            threading.Thread(target=self._loop, name=f"{name}-{number}", daemon=True)
            for number in range(max(_LEAST_THREADS, len(slots)))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def queued_rows(self) -> int:
        """Rows that wait."""
        return self._queue.rows

    @property
    def in_flight(self) -> int:
        """Requests admitted and not yet answered."""
        return self._unanswered

    def submit(self, rows: Rows, call: Call, done: Done) -> None:
        """Admit a request, or refuse it before any work is done.

        Args:
            rows: what the packer takes, 1 <= n <= max_rows.
            call: deadline and cancellation.
            done: called once with the outputs, each [n, ...], or with the error.

        Raises:
            Unavailable: shutting down.
            Overloaded: the queue has no room.
            DeadlineExceeded: the answer could not be there in time.
        """
        try:
            with self._lock:
                now = self._clock()
                count = len(rows)
                waiting = self._queue.rows + count
                if call.deadline is not None or self._closed or waiting > self._max_queue_rows:
                    self._admit(count, call, now)
                self._queue.push(Item(rows, count, call, done, now))
                self._unanswered += 1
                full = self._queue.rows >= self._max_rows
                if not self._turn.add(self, full=full) and self._free_runner() is not None:
                    self._wake.notify()
        except ServiceError as refusal:
            self._observer.rejected(refusal.reason)
            raise

    def pump(self) -> None:
        """Run what waits, batch by batch, as long as that is short; else wake a thread for it."""
        while True:
            with self._lock:
                runner = self._free_runner()
                if runner is None:
                    return  # whoever is busy takes what waits
                rows = min(self._queue.rows, self._max_rows)
                if self._max_delay_s or self._run_times.fastest(rows) >= self._inline_below_s:
                    self._wake.notify()
                    return
                batch = self._take(runner)
            try:
                self._run(runner, batch, timed_out=False, inline=True)
            except Exception as error:  # noqa: BLE001  the transport's thread serves others too
                self._die(error)
                return

    def close(self, timeout_s: float) -> None:
        """Refuse new requests, finish those admitted, end the threads."""
        end = time.monotonic() + timeout_s
        with self._lock:
            self._closed = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _admit(self, rows: int, call: Call, now: float) -> None:
        if self._cause is not None:
            raise end_of(self._cause)
        if self._closed:
            raise Unavailable("the server is shutting down", reason="DRAINING")
        waiting, running = self._queue.rows, self._crew.running_rows
        if waiting + rows > self._max_queue_rows:
            raise Overloaded(
                f"{waiting} rows wait already, at most {self._max_queue_rows} may",
                retry_after_s=self._wait(running, waiting),
            )
        if call.deadline is None:
            return
        if now >= call.deadline:
            raise DeadlineExceeded("the deadline had passed on arrival", reason="EXPIRED")
        if not waiting and self._crew.idle_device:
            # The run starts at once: trying costs less than a prediction that may be stale.
            return
        wait = self._wait(running, waiting + rows)
        if now + wait > call.deadline:
            raise DeadlineExceeded(
                f"{waiting + running} rows are ahead, about {wait:.3f} s; "
                f"the deadline is in {call.deadline - now:.3f} s",
                reason="QUEUE_WAIT",
            )

    def _predict(self, rows: int) -> float:
        return self._run_times.predict(rows, self._max_rows)

    def _wait(self, running: int, waiting: int) -> float:
        """Seconds until all devices together have run so many rows."""
        return (self._predict(running) + self._predict(waiting)) / self._crew.devices

    def _loop(self) -> None:
        try:
            while True:
                with self._lock:
                    runner, timed_out = self._next_runner()
                    if runner is None:
                        return
                    batch = self._take(runner)
                self._run(runner, batch, timed_out=timed_out, inline=False)
                del batch  # an idle batcher holds nobody's rows
        except BaseException as error:
            self._die(error)
            raise

    def _next_runner(self) -> tuple[Runner | None, bool]:
        """Wait for who shall run a batch, None once none will come; and whether time ran out."""
        while True:
            runner = self._free_runner()  # anew after each wait: another thread may have been first
            if runner is None:
                if self._closed and not self._queue:
                    return None, False
                self._wake.wait()
            elif not self._max_delay_s or self._queue.rows >= self._max_rows or self._closed:
                return runner, False
            elif self._wait_for_company():
                return runner, True

    def _free_runner(self) -> Runner | None:
        """Whose turn it is, if anything waits that can begin; the lock is held."""
        return self._crew.next(full=self._queue.rows >= self._max_rows) if self._queue else None

    def _take(self, runner: Runner) -> Batch:
        """Take what fits, and the runner with it; the lock is held."""
        batch = self._queue.take(self._max_rows, self._clock())
        self._crew.begin(runner, batch.rows)
        if self._free_runner() is not None:
            self._wake.notify()  # another slot can begin with what is left
        return batch

    def _wait_for_company(self) -> bool:
        """Wait for more rows, max_delay_s from the first item on at most; True if time is up."""
        start_by = self._queue.earliest_deadline() - self._predict(self._queue.rows)
        left = min(self._queue.oldest() + self._max_delay_s, start_by) - self._clock()
        if left <= 0:
            return True
        self._wake.wait(left)
        return False

    def _run(self, runner: Runner, batch: Batch, *, timed_out: bool, inline: bool) -> None:
        """Run a batch and answer its callers; the runner is free again before they are answered."""
        items, dropped = batch.items, batch.dropped
        count = len(items) + len(dropped)
        try:
            for item, error in dropped:
                runner.drop(item, error)
            reason = "full" if batch.full else "timeout" if timed_out else "idle"
            outcome = runner.run(items, reason, inline) if items else ()
            if isinstance(outcome, EngineMemoryError) and len(items) > 1:
                half = len(items) // 2
                parts = [items[:half], items[half:]]
                answers = [(part, runner.run(part, reason, inline)) for part in parts]
            else:
                answers = [(items, outcome)]
            self._free(runner, batch)
            for part, part_outcome in answers:
                runner.answer(part, part_outcome)
                if isinstance(part_outcome, EngineLostError):
                    self._die(part_outcome)
        except BaseException:
            for item in (*items, *(item for item, _ in dropped)):
                item.finish(RuntimeError("the batcher died"))
            raise
        finally:
            with self._lock:
                self._unanswered -= count

    def _free(self, runner: Runner, batch: Batch) -> None:
        with self._lock:
            self._crew.end(runner, batch.rows)
            if self._closed:
                self._wake.notify_all()
            elif self._queue:
                self._wake.notify()

    def _die(self, cause: BaseException) -> None:
        """Only a bug or a lost device gets here. Nobody may be left waiting."""
        _log.critical("batcher died", exc_info=cause)
        with self._lock:
            first = self._cause is None
            self._closed, self._cause = True, self._cause or cause
            self._crew.disband()
            left = self._queue.clear()
            self._unanswered -= len(left)
            self._wake.notify_all()
        for item in left:
            item.finish(end_of(cause))
        if first:
            self._on_death(cause)
