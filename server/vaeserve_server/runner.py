"""One batch of requests through an engine: packed, run, and each given what is its own.

The three steps may be taken by three threads: only the middle one needs the engine.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from vaeserve_server.call import Outputs, Timing
from vaeserve_server.engine import EngineLostError, EngineMemoryError, Slot
from vaeserve_server.errors import InvalidArgument, OutOfMemory, ServiceError, Unavailable
from vaeserve_server.packing import AsLevels, bare
from vaeserve_server.row_queue import Batch, Item, RowQueue
from vaeserve_server.soundness import OVERFLOW, finite


class Observer(Protocol):
    """Told what a batcher does, from any thread."""

    def ran(
        self,
        *,
        rows: int,
        padding: int,
        seconds: float,
        waits: list[float],
        close_reason: str,
        inline: bool,
    ) -> None:
        """A batch was run: rows, padding rows added, run time, each request's time in the queue."""

    def computed(self, outputs: Outputs) -> None:
        """The outputs of a batch, to be looked at, not changed."""

    def rejected(self, reason: str) -> None:
        """A request was refused or dropped; `reason` is the ServiceError's."""


@dataclass(slots=True, eq=False)
class Work:
    """A batch on its way through a slot.

    Attributes:
        runner: of the slot.
        items: the requests; those that no model may see are taken out and answered while packing.
        dropped: requests that nobody waits for any more, and why.
        taken: rows of all items when they were taken from the queue.
        reason: why the batch was closed.
        inline: whether the transport's thread runs it.
        unanswered: requests of it that are still to be counted as answered.
        is_half: whether it is half of a batch that did not fit.
        ahead: whether it was packed while its engine ran another.
        grown: whether requests were added since it was packed.
        packed: what the engine takes; None where nothing is left to run.
        packing_s: seconds that packing took.
        halves: what was run and is to be answered in its place, where the whole did not fit.
        rows: that were run.
        seconds: of the run, packing included.
        began: monotonic time of the run's beginning, as if packing had come right before.
        outcome: outputs or the error of all.
    """

    runner: "Runner"
    items: list[Item]
    dropped: list[tuple[Item, ServiceError]]
    taken: int
    reason: str
    inline: bool
    unanswered: int
    is_half: bool = False
    ahead: bool = False
    grown: bool = False
    packed: Any = None
    packing_s: float = 0.0
    halves: "tuple[Work, ...]" = ()
    rows: int = 0
    seconds: float = 0.0
    began: float = 0.0
    outcome: Outputs | Exception = ()

    @property
    def parts(self) -> "tuple[Work, ...]":
        """What is to be answered."""
        return self.halves or (self,)

    def grow(self, queue: RowQueue, max_rows: int, now: float) -> int:
        """Add requests, to be packed again with the others.

        Args:
            queue: where they wait.
            max_rows: most rows of the batch.
            now: monotonic time.

        Returns:
            rows that were added.
        """
        before, rows = len(self.items), self.taken
        batch = queue.take(max_rows, now, Batch(self.items, self.dropped, rows))
        self.unanswered += len(self.items) - before + len(self.dropped)
        self.taken, self.grown = batch.rows, True
        if batch.full:
            self.reason = "full"
        return batch.rows - rows

    def fail(self, error: Exception) -> None:
        """Pass an error on to everybody who has no answer yet."""
        for item in (*self.items, *(item for item, _ in self.dropped)):
            item.finish(error)


class Runner:
    """Takes batches through one slot.

    Attributes:
        engine: of the slot; others may share it.
        device: number of its device.
    """

    def __init__(
        self, slot: Slot, name: str, observer: Observer, clock: Callable[[], float]
    ) -> None:
        """Keep what a run needs; see Batcher."""
        self.engine, self._packer, self.device = slot
        self._name = name
        self._observer = observer
        self._clock = clock

    def pack(self, work: Work) -> None:
        """Join the rows; who has left, and rows that no model may see, are answered already."""
        start = self._clock()
        for item, error in work.dropped:
            self.drop(item, error)
        work.dropped = []
        items, work.packed = work.items, None
        try:
            if items:
                packed = self._packer.pack([bare(item.rows) for item in items])
                if not self._packer.sound(packed):
                    self._drop_unsound(items)
                    packed = items and self._packer.pack([bare(item.rows) for item in items])
                work.packed = packed if items else None
        except Exception as error:  # noqa: BLE001  goes to exactly this batch's callers
            work.outcome = error
        work.packing_s = self._clock() - start

    def run(self, work: Work) -> None:
        """Run what was packed, in halves where there is no memory for the whole."""
        if work.packed is not None and not work.inline:
            self._renew(work)
        if work.packed is None:
            return
        items = work.items
        start = self._clock()
        try:
            as_levels = type(items[0].rows) is AsLevels and all(
                type(item.rows) is AsLevels for item in items
            )
            work.outcome = self.engine.run(work.packed, as_levels=as_levels)
        except Exception as error:  # noqa: BLE001  goes to exactly this batch's callers
            work.outcome = error
            if isinstance(error, EngineMemoryError) and len(items) > 1 and not work.is_half:
                self._run_halves(work)
            return
        # While others computed on the device, this batch was still waiting.
        waited_s = self.engine.waited_s
        work.seconds = max(0.0, work.packing_s + self._clock() - start - waited_s)
        work.began = start + waited_s - work.packing_s
        work.rows = len(work.packed)

    def _renew(self, work: Work) -> None:
        """Pack again where requests came or left while the batch waited for its engine."""
        now = self._clock()
        gone = {item: error for item in work.items if (error := item.call.gone(now)) is not None}
        if gone:
            work.items = [item for item in work.items if item not in gone]
            work.dropped += gone.items()
        if gone or work.grown:
            self.pack(work)

    def _run_halves(self, work: Work) -> None:
        half = len(work.items) // 2
        early, late = work.items[:half], work.items[half:]
        counts = work.unanswered - len(late), len(late)
        work.halves = tuple(
            Work(self, items, [], 0, work.reason, work.inline, count, is_half=True)
            for items, count in zip((early, late), counts, strict=True)
        )
        for part in work.halves:
            self.pack(part)
            self.run(part)

    def _drop_unsound(self, items: list[Item]) -> None:
        for item in list(items):
            problem = self._packer.problem(bare(item.rows))
            if problem is not None:
                items.remove(item)
                item.finish(problem)

    def answer(self, work: Work) -> None:
        """Give each request its own rows, or all of them the error."""
        outcome = work.outcome
        if isinstance(outcome, EngineMemoryError):
            outcome = OutOfMemory(f"{outcome}; send fewer rows")
        elif isinstance(outcome, EngineLostError):
            outcome = end_of(outcome)
        elif not isinstance(outcome, Exception) and work.rows:
            self._tell(work, outcome)
        error = outcome if isinstance(outcome, Exception) else None
        outputs = () if isinstance(outcome, Exception) else outcome
        all_finite = all(map(finite, outputs))
        alone = len(work.items) == 1
        begin = 0
        now = self._clock()
        for item in work.items:
            end = begin + item.count
            call = item.call
            if (call.cancelled or call.deadline is not None) and (gone := call.gone(now)):
                self.drop(item, gone)
            elif error is not None:
                self._fail(item, error)
            else:
                own = outputs if alone else tuple([output[begin:end] for output in outputs])
                if all_finite or all(map(finite, own)):
                    item.finish(own)
                else:
                    item.finish(InvalidArgument(OVERFLOW, reason="NOT_FINITE"))
            begin = end

    def _fail(self, item: Item, error: Exception) -> None:
        if isinstance(error, ServiceError):
            self.drop(item, error)
        else:
            item.finish(error)

    def _tell(self, work: Work, outputs: Outputs) -> None:
        """Have it counted, and tell those who asked where their time went."""
        items, began, seconds, rows = work.items, work.began, work.seconds, work.rows
        self._observer.ran(
            rows=rows,
            padding=self.engine.bucket(rows) - rows,
            seconds=seconds,
            waits=[began - item.enqueued for item in items],
            close_reason=work.reason,
            inline=work.inline,
        )
        self._observer.computed(outputs)
        for item in items:
            if item.call.timings is not None:
                wait = began - item.enqueued
                item.call.note(Timing(self._name, wait, seconds, rows, work.reason))

    def drop(self, item: Item, error: ServiceError) -> None:
        """Answer a request with an error, and count it."""
        item.finish(error)
        self._observer.rejected(error.reason)


def end_of(cause: BaseException | None) -> Exception:
    """What callers are told whose rows nobody will run.

    Args:
        cause: a bug; a lost device, in whose place another server may; None for the server's end.
    """
    if cause is None:
        return Unavailable.draining()
    if isinstance(cause, EngineLostError):
        return Unavailable("the device has failed, the server is ending", reason="DRAINING")
    return RuntimeError("the batcher has died; the log says of what")
