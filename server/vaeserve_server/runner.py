"""One batch of requests through an engine: packed, run, and each given what is its own."""

from collections.abc import Callable
from typing import Protocol

from vaeserve_server.call import Outputs, Timing
from vaeserve_server.engine import EngineLostError, EngineMemoryError, Slot
from vaeserve_server.errors import InvalidArgument, OutOfMemory, ServiceError, Unavailable
from vaeserve_server.packing import AsLevels, bare, finite
from vaeserve_server.row_queue import Item
from vaeserve_server.run_times import RunTimes


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


class Runner:
    """Runs the batches of one slot, one at a time.

    Attributes:
        device: number of its device.
    """

    def __init__(
        self,
        slot: Slot,
        *,
        name: str,
        run_times: RunTimes,
        observer: Observer,
        clock: Callable[[], float],
    ) -> None:
        """Keep what a run needs; see Batcher."""
        self._engine, self._packer, self.device = slot
        self._name = name
        self._run_times = run_times
        self._observer = observer
        self._clock = clock

    def run(self, items: list[Item], reason: str, inline: bool) -> Outputs | Exception:
        """Run the rows of requests; those that no model may see are answered and left out."""
        start = self._clock()
        try:
            rows = self._packer.pack([bare(item.rows) for item in items])
            if not self._packer.sound(rows):
                self._drop_unsound(items)
                if not items:
                    return ()
                rows = self._packer.pack([bare(item.rows) for item in items])
            as_levels = all(type(item.rows) is AsLevels for item in items)
            outputs = self._engine.run(rows, as_levels=as_levels)
        except Exception as error:  # noqa: BLE001  goes to exactly this batch's callers
            return error
        # While others computed on the device, this batch was still waiting.
        seconds = max(0.0, self._clock() - start - self._engine.waited_s)
        start += self._engine.waited_s
        count = len(rows)
        self._run_times.record(count, seconds)
        self._observer.ran(
            rows=count,
            padding=self._engine.bucket(count) - count,
            seconds=seconds,
            waits=[start - item.enqueued for item in items],
            close_reason=reason,
            inline=inline,
        )
        self._observer.computed(outputs)
        for item in items:
            if item.call.timings is not None:
                wait = start - item.enqueued
                item.call.note(Timing(self._name, wait, seconds, count, reason))
        return outputs

    def _drop_unsound(self, items: list[Item]) -> None:
        for item in list(items):
            problem = self._packer.problem(bare(item.rows))
            if problem is not None:
                items.remove(item)
                item.finish(problem)

    def answer(self, items: list[Item], outcome: Outputs | Exception) -> None:
        """Give each request its own rows, or all of them the error."""
        if isinstance(outcome, EngineMemoryError):
            outcome = OutOfMemory(f"{outcome}; send fewer rows")
        elif isinstance(outcome, EngineLostError):
            outcome = end_of(outcome)
        all_finite = isinstance(outcome, Exception) or all(map(finite, outcome))
        begin = 0
        now = self._clock()
        for item in items:
            end = begin + item.count
            call = item.call
            gone = call.gone(now) if call.cancelled or call.deadline is not None else None
            if gone is not None:
                self.drop(item, gone)
            elif isinstance(outcome, ServiceError):
                self.drop(item, outcome)
            elif isinstance(outcome, Exception):
                item.finish(outcome)
            else:
                own = tuple([output[begin:end] for output in outcome])
                if all_finite or all(map(finite, own)):
                    item.finish(own)
                else:
                    item.finish(
                        InvalidArgument("the model overflows on these values", reason="NOT_FINITE")
                    )
            begin = end

    def drop(self, item: Item, error: ServiceError) -> None:
        """Answer a request with an error, and count it."""
        item.finish(error)
        self._observer.rejected(error.reason)


class Crew:
    """The runners of a batcher, and which of them are free; the batcher guards it.

    Attributes:
        running_rows: rows that are being run.
    """

    def __init__(self, runners: list[Runner]) -> None:
        """All of them are free."""
        self.running_rows = 0
        self._free = runners
        self._running = {runner.device: 0 for runner in runners}  # batches, by device

    @property
    def devices(self) -> int:
        """How many devices they are on."""
        return len(self._running)

    @property
    def idle_device(self) -> bool:
        """Whether a device has nothing to do."""
        return any(map(self._idle, self._free))

    def next(self, *, full: bool) -> Runner | None:
        """Whose turn it is, if anybody's.

        On a device that is free; or, to pack ahead, on the one with the least to do.

        Args:
            full: whether a full batch waits. A smaller one does better to grow than to be packed
                ahead.
        """
        if not self._free:
            return None
        runner = self._free[0]
        if len(self._free) > 1:
            runner = min(self._free, key=lambda each: self._running[each.device])
        return runner if full or self._idle(runner) else None

    def begin(self, runner: Runner, rows: int) -> None:
        """A free runner has got a batch."""
        self._free.remove(runner)
        self._running[runner.device] += 1
        self.running_rows += rows

    def end(self, runner: Runner, rows: int) -> None:
        """It has run it."""
        self._free.append(runner)
        self._running[runner.device] -= 1
        self.running_rows -= rows

    def disband(self) -> None:
        """Nobody is free any more."""
        self._free.clear()

    def _idle(self, runner: Runner) -> bool:
        return not self._running[runner.device]


def end_of(cause: BaseException) -> Exception:
    """What callers are told whose rows nobody will run; of a lost device: another server may."""
    if isinstance(cause, EngineLostError):
        return Unavailable("the device has failed, the server is ending", reason="DRAINING")
    return RuntimeError("the batcher has died; the log says of what")
