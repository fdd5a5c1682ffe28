"""Where a call's time went, for callers who ask. Pure.

A server that is asked by the metadatum `vaeserve-timing: 1` says behind its reply how long the rows
waited and ran, for each batch they rode in.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

ResultT = TypeVar("ResultT")

_KEY = "vaeserve-timing"
ASK = ((_KEY, "1"),)
"""Metadata of a call that asks."""


@dataclass(frozen=True, slots=True)
class BatchTime:
    """One batch that rows of a call rode in.

    Attributes:
        graph: which graph ran, such as "digits-encoder".
        queue: seconds that the call's rows waited for it.
        run: seconds that it ran.
        rows: rows of the whole batch, other callers' included.
        close_reason: why it was closed: "idle", "full" or "timeout".
    """

    graph: str
    queue: float
    run: float
    rows: int
    close_reason: str


@dataclass(frozen=True, slots=True)
class Latency:
    """Where the time of one call went.

    The parts of a large call overlap, so that their waits and runs together may exceed the total.

    Attributes:
        total: seconds from sending the first request to the last answer, retries included.
        batches: those that its rows rode in, in order; empty if the server does not tell.
    """

    total: float
    batches: tuple[BatchTime, ...]

    @property
    def queue(self) -> float:
        """Seconds that rows waited in the server's queues."""
        return sum(batch.queue for batch in self.batches)

    @property
    def run(self) -> float:
        """Seconds that their batches ran."""
        return sum(batch.run for batch in self.batches)

    @property
    def network(self) -> float:
        """All other seconds: the way there and back, and the server's reading and writing."""
        return max(0.0, self.total - self.queue - self.run)

    def __repr__(self) -> str:
        parts = ", ".join(
            f"{name} {getattr(self, name) * 1e3:.2f}" for name in ("queue", "run", "network")
        )
        return f"<Latency {self.total * 1e3:.2f} ms: {parts}>"


_noted: ContextVar[list[Latency] | None] = ContextVar("vaeserve_latencies", default=None)


@contextmanager
def timed() -> Iterator[list[Latency]]:
    """Ask the server where time goes, for every call of a model that is made within.

        with vaeserve.timed() as calls:
            digits.decode(z)
        calls[0].queue, calls[0].run, calls[0].network

    Results also carry theirs as `latency`, but for those of decode and reconstruct, which are plain
    arrays. Calls of this thread or task, and of tasks made within, are meant; threads started
    within have a context of their own.

    Yields:
        one entry for each call that succeeded, in the order of their ends.
    """
    calls: list[Latency] = []
    token = _noted.set(calls)
    try:
        yield calls
    finally:
        _noted.reset(token)


def asked() -> list[BatchTime] | None:
    """Where a call of the calling context collects its batches; None outside `timed`."""
    return None if _noted.get() is None else []


def with_latency(result: ResultT, began: float, batches: list[BatchTime]) -> ResultT:
    """Note a call that is over, and give its result the `latency` that it has room for."""
    latency = Latency(time.monotonic() - began, tuple(batches))
    if (calls := _noted.get()) is not None:
        calls.append(latency)
    if hasattr(result, "latency"):
        return cast(ResultT, replace(cast(Any, result), latency=latency))
    return result


def batches_of(trailers: Iterable[tuple[str, str | bytes]]) -> list[BatchTime]:
    """Read what the server says behind its reply; what cannot be read is left out."""
    found = next((value for key, value in trailers if key == _KEY), "")
    entries = found.split(",") if isinstance(found, str) and found else []
    return [batch for batch in map(_batch, entries) if batch is not None]


def _batch(entry: str) -> BatchTime | None:
    graph, *fields = entry.split(";")
    values = dict(field.partition("=")[::2] for field in fields)
    try:
        return BatchTime(
            graph,
            queue=int(values["queue_us"]) / 1e6,
            run=int(values["run_us"]) / 1e6,
            rows=int(values["rows"]),
            close_reason=values["close"],
        )
    except (KeyError, ValueError):  # of a server that tells it otherwise
        return None
