"""One batch of requests through an engine: packed, run, and each given what is its own."""

from collections.abc import Callable
from typing import Protocol

from vaeserve_server.call import Floats, Outputs, Timing
from vaeserve_server.engine import Engine, EngineMemoryError
from vaeserve_server.errors import InvalidArgument, OutOfMemory, ServiceError
from vaeserve_server.packing import Packer, finite
from vaeserve_server.row_queue import Item
from vaeserve_server.run_times import RunTimes


class Observer(Protocol):
    """Told what a batcher does; `rejected` comes from any thread, the others from one at a time."""

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
    """Runs batches, one at a time."""

    def __init__(
        self,
        engine: Engine,
        packer: Packer,
        *,
        name: str,
        run_times: RunTimes,
        observer: Observer,
        clock: Callable[[], float],
    ) -> None:
        """Keep what a run needs; see Batcher."""
        self._engine = engine
        self._packer = packer
        self._name = name
        self._run_times = run_times
        self._observer = observer
        self._clock = clock

    def run(self, items: list[Item], reason: str, inline: bool) -> Outputs | Exception:
        """Run the rows of requests; those that no model may see are answered and left out."""
        start = self._clock()
        try:
            rows = self._packer.pack([item.rows for item in items])
            if not self._packer.sound(rows):
                self._drop_unsound(items, rows)
                if not items:
                    return ()
                rows = self._packer.pack([item.rows for item in items])
            outputs = self._engine.run(rows)
        except Exception as error:  # noqa: BLE001  goes to exactly this batch's callers
            return error
        seconds = self._clock() - start
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

    def _drop_unsound(self, items: list[Item], rows: Floats) -> None:
        begin = 0
        for item in list(items):
            problem = self._packer.problem(rows[begin : begin + item.count])
            begin += item.count
            if problem is not None:
                items.remove(item)
                item.finish(problem)

    def answer(self, items: list[Item], outcome: Outputs | Exception) -> None:
        """Give each request its own rows, or all of them the error."""
        if isinstance(outcome, EngineMemoryError):
            outcome = OutOfMemory(f"{outcome}; send fewer rows")
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
