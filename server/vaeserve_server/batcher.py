"""Requests of many callers become batches of one graph.

Knows rows, clocks and callbacks; no gRPC, no ONNX Runtime. Batching is work-conserving: a batch
starts at once when the engine is free, and the next one grows while it is busy. Rows are counted,
not requests; a request is never split. Whatever happens to one request (cancelled, expired, not
finite) or one batch (engine error) touches nobody else. Several devices share one queue: whichever
is free takes the next batch.

A batch runs where it costs least. The transport's thread runs short ones itself at the end of its
turn (`pump`): handing them over would take longer than running them. Long ones go to the graph's
own threads, each of which does what is most urgent: run a packed batch whose engine is free, pack
the next one shortly before, answer callers. So whoever runs goes on running, and the others pack
and answer for it; a lone batch stays with one thread from end to end.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from vaeserve_server.admission import Admission
from vaeserve_server.call import Call, Done, Rows
from vaeserve_server.config import Placement
from vaeserve_server.crew import Crew
from vaeserve_server.engine import EngineLostError, Slot, one_of_each_engine
from vaeserve_server.errors import ServiceError
from vaeserve_server.hand_over import HandOver
from vaeserve_server.row_queue import Item, RowQueue
from vaeserve_server.run_times import RunTimes
from vaeserve_server.runner import Observer, Runner, Work, end_of
from vaeserve_server.turn import Turn

_log = logging.getLogger(__name__)

# Batches whose callers may wait for their answers while further ones are packed.
_MOST_UNANSWERED = 2


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
            on_death: called once, with the cause, if a thread dies of a bug or a device is lost.
            turn: the transport's turn, whose thread may run short batches.
            placement: where batches run; `auto` goes by measured run times.
            clock: monotonic seconds.
        """
        self._crew = Crew([Runner(slot, name, observer, clock) for slot in slots])
        self._admission = Admission(
            self._crew, run_times, max_rows=max_rows, max_queue_rows=max_queue_rows
        )
        self._max_rows = max_rows
        self._max_queue_rows = max_queue_rows
        self._max_delay_s = max_delay_s
        self._run_times = run_times
        self._hand_over = HandOver(run_times, placement, max_rows, may_wait=max_delay_s > 0)
        self._observer = observer
        self._on_death = on_death
        self._turn = turn
        self._clock = clock
        self._queue = RowQueue()
        self._ran: deque[Work] = deque()  # to be answered
        self._unanswered = 0
        self._alarms = 0  # threads that wake by themselves when a batch may be packed ahead
        self._ending = self._closed = False  # no more calls are begun; no more runs are
        self._cause: BaseException | None = None
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._threads = [
            threading.Thread(target=self._loop, name=f"{name}-{number}", daemon=True)
            for number in range(1 + len(one_of_each_engine(slots)))  # one more than can run at once
        ]
        for thread in self._threads:
            thread.start()

    @property
    def queued_rows(self) -> int:
        """Rows that wait, packed ones included."""
        return self._queue.rows + self._crew.waiting_rows

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
            Unavailable: shutting down, and the call was not begun.
            Overloaded: the queue has no room.
            DeadlineExceeded: the answer could not be there in time.
        """
        try:
            with self._lock:
                if self._ending and (self._closed or not call.begun):
                    raise end_of(self._cause)
                now, count, waiting = self._clock(), len(rows), self.queued_rows
                if call.deadline is not None or waiting + count > self._max_queue_rows:
                    self._admission.check(count, call, waiting=waiting, now=now)
                self._queue.push(Item(rows, count, call, done, now))
                self._unanswered += 1
                if not self._turn.add(self, full=self._queue.rows >= self._max_rows):
                    self._call_one(now)
        except ServiceError as refusal:
            self._observer.rejected(refusal.reason)
            raise

    def pump(self) -> None:
        """Run what waits, batch by batch, as long as that is short; else wake a thread for it."""
        while True:
            with self._lock:
                if not self._queue.rows:
                    return
                now, runner = self._clock(), self._crew.idle()
                if runner is None or self._hand_over.pays(
                    self._queue, self._unanswered, self._turn.reading_s
                ):
                    self._call_one(now)
                    return
                work = self._take(runner, now, inline=True)
                self._crew.run(work, now, math.inf)
            try:
                runner.pack(work)
                self._run(work)
                for part in work.parts:
                    self._answer(part)
            except Exception as error:  # noqa: BLE001  the transport's thread serves others too
                self._die(error, work)
                return

    def drain(self) -> None:
        """Refuse calls that were not begun, and wait for no company; others go on, run by run."""
        with self._lock:
            self._ending = True
            self._wake.notify_all()

    def close(self, timeout_s: float) -> None:
        """Refuse every request, finish those admitted, end the threads."""
        end = time.monotonic() + timeout_s
        with self._lock:
            self._ending = self._closed = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _loop(self) -> None:
        while (step := self._next_step()) is not None:
            take, work = step
            try:
                take(work)
            except BaseException as error:
                self._die(error, work)
                raise
            del step, work  # an idle batcher holds nobody's rows

    def _next_step(self) -> tuple[Callable[[Work], None], Work] | None:
        """Wait for what is most urgent; None once nothing will come any more."""
        with self._lock:
            while True:
                now = self._clock()
                packed = self._crew.take()
                if packed is not None:
                    if packed.ahead and self._queue.rows >= packed.taken:  # the run before was long
                        self._crew.waiting_rows += packed.grow(self._queue, self._max_rows, now)
                    self._crew.run(packed, now, self._admission.predict(packed.taken))
                    self._call_one(now)  # now it is known when the next one may be packed
                    return self._run, packed
                runner = self._free_runner(now) if len(self._ran) < _MOST_UNANSWERED else None
                patience_s = 0.0 if runner is None else self._patience_s(now)
                if runner is not None and not patience_s:
                    return self._pack, self._take(runner, now, inline=False)
                if self._ran:
                    return self._answer, self._ran.popleft()
                if self._closed and not self._queue.rows:
                    return None
                self._wait(patience_s, self._crew.ahead_from() - now)

    def _wait(self, patience_s: float, ahead_s: float) -> None:
        """Wait for a call, or until a batch has waited for company or may be packed ahead."""
        alarm = not patience_s and 0 < ahead_s < math.inf
        self._alarms += alarm
        self._wake.wait(patience_s or (ahead_s if alarm else None))
        self._alarms -= alarm

    def _call_one(self, now: float) -> None:
        """Wake a thread if there is something to do, or if none knows when; the lock is held."""
        unknown = self._queue.rows and not self._alarms and self._crew.ahead_from() < math.inf
        if unknown or self._free_runner(now) is not None:
            self._wake.notify()

    def _free_runner(self, now: float) -> Runner | None:
        """Who can pack, if anything waits that may be packed now; the lock is held."""
        rows = self._queue.rows
        return self._crew.next(now, full=rows >= self._max_rows) if rows else None

    def _wants_company(self) -> bool:
        return self._max_delay_s > 0 and not self._ending and self._queue.rows < self._max_rows

    def _patience_s(self, now: float) -> float:
        """Seconds that the next batch shall wait for company; the lock is held."""
        if not self._wants_company():
            return 0.0
        run_s = self._admission.predict(self._queue.rows)
        return self._queue.patience_s(now, self._max_delay_s, run_s)

    def _take(self, runner: Runner, now: float, *, inline: bool) -> Work:
        """Take what fits, and the runner with it; the lock is held."""
        waited = self._wants_company()
        batch = self._queue.take(self._max_rows, now)
        self._crew.begin(runner, batch.rows)
        if not inline and self._free_runner(now) is not None:
            self._wake.notify()  # another slot can begin with what is left
        reason = "full" if batch.full else "timeout" if waited else "idle"
        count = len(batch.items) + len(batch.dropped)
        return Work(runner, batch.items, batch.dropped, batch.rows, reason, inline, count)

    def _pack(self, work: Work) -> None:
        work.runner.pack(work)
        with self._lock:
            self._crew.put(work)

    def _run(self, work: Work) -> None:
        work.runner.run(work)
        self._end(work)

    def _end(self, work: Work) -> None:
        """A batch was run: the engine is free before anybody is answered."""
        with self._lock:
            self._crew.end(work)
            for part in work.parts:
                if part.rows:
                    self._run_times.record(part.rows, part.seconds)
            if not work.inline:
                self._ran += work.parts
            if self._closed:
                self._wake.notify_all()
            elif self._crew.packed or (self._queue.rows and not work.inline):
                self._wake.notify()  # this thread goes on running, or answering if it is the turn's

    def _answer(self, work: Work) -> None:
        start = self._clock()
        work.runner.answer(work)
        with self._lock:
            self._unanswered -= work.unanswered
            work.unanswered = 0
            self._hand_over.answered(len(work.items), work.seconds, self._clock() - start)
        if isinstance(work.outcome, EngineLostError):
            self._die(work.outcome)

    def _die(self, cause: BaseException, *works: Work) -> None:
        """Only a bug or a lost device gets here, and to these. Nobody may be left waiting."""
        _log.critical("batcher died", exc_info=cause)
        with self._lock:
            first = self._cause is None
            self._ending, self._closed, self._cause = True, True, self._cause or cause
            left = [*works, *self._crew.disband(), *self._ran]
            self._ran.clear()
            items = self._queue.clear()
            self._unanswered -= len(items)
            for work in left:
                self._unanswered -= sum(part.unanswered for part in work.parts)
            self._wake.notify_all()
        for item in items:
            item.finish(end_of(cause))
        for work in left:
            work.fail(end_of(cause))
        if first:
            self._on_death(cause)
