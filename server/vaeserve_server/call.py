"""One request on its way: what the transport knows of it, and the steps its handler takes.

A handler returns its reply, or a `Plain` where one run is all it needs. Others are generators: they
yield a `Run` wherever they need a graph, are sent the outputs, and return the reply. None blocks or
knows which thread resumes it, so any transport can carry it.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message

from vaeserve_server.errors import Cancelled, DeadlineExceeded, ServiceError

T = TypeVar("T")
Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Outputs = tuple[Array, ...]

_CLOCK_TOLERANCE_S = 0.01
_MOST_TIMINGS = 64

# Trailers over 8 KB may be dropped on the way, or fail the call. Of an entry all but the graph's
# name is a few labels and numbers: see `timing`.
_MOST_TIMING_BYTES = 7 * 1024
_LABEL_BYTES = 64


class Rows(Protocol):
    """What a batcher may be given: it needs to know how many; `packing` knows the kinds."""

    def __len__(self) -> int:
        """How many rows."""


class Timing(NamedTuple):
    """How long a request waited for one batch, and what that batch was.

    Attributes:
        graph: which graph ran.
        queue_s: seconds from admission to the start of the run.
        run_s: seconds of the run.
        rows: rows of the batch.
        close_reason: why the batch was closed.
    """

    graph: str
    queue_s: float
    run_s: float
    rows: int
    close_reason: str


@dataclass(slots=True, eq=False)
class Call:
    """What a handler and the batcher may ask about the caller.

    Attributes:
        deadline: monotonic time after which nobody waits any more; None without one.
        cancelled: set by the transport when the caller goes away.
        begun: whether a run of it is over; when the server stops, such a call is finished.
        timings: one entry a batch it rode in, of many the first ones; None unless the caller asked
            for them.
        defer: runs a step on a thread where it stalls nobody; None where every call has a thread
            of its own.
    """

    deadline: float | None = None
    cancelled: bool = False
    begun: bool = False
    timings: list[Timing] | None = None
    defer: Callable[[Callable[[], None]], object] | None = None

    def note(self, timing: Timing) -> None:
        """Note a batch that it rode in, for a caller who asked."""
        if self.timings is None or len(self.timings) >= _MOST_TIMINGS:
            return
        names = sum(len(noted.graph.encode()) for noted in (*self.timings, timing))
        if names + _LABEL_BYTES * (len(self.timings) + 1) <= _MOST_TIMING_BYTES:
            self.timings.append(timing)

    def gone(self, now: float) -> ServiceError | None:
        """Why nobody waits for the answer any more, if so."""
        return self.left(now) if self.cancelled or self._expired(now) else None

    def left(self, now: float) -> ServiceError:
        """Why the caller of a call that is over has left before its answer."""
        # gRPC cancels a call when its deadline passes, by a clock of its own.
        if self._expired(now + _CLOCK_TOLERANCE_S):
            return DeadlineExceeded(
                "the deadline passed before the answer was ready", reason="EXPIRED"
            )
        return Cancelled()

    def _expired(self, now: float) -> bool:
        return self.deadline is not None and now >= self.deadline


class Graph(Protocol):
    """Takes rows for one graph; `batcher.Batcher` is the real one."""

    def submit(self, rows: Rows, call: Call, done: "Done") -> None:
        """Admit rows and return at once; `done` is called once, later, on any thread.

        Raises:
            ServiceError: refused; `done` is not called.
        """


class Run(NamedTuple):
    """Rows that a handler wants run on a graph."""

    graph: Graph
    rows: Rows


Build = Callable[[Outputs], bytes]


class Plain(NamedTuple):
    """What most requests come to: rows through one graph, and a reply made of its outputs.

    Attributes:
        graph: which.
        rows: its input.
        build: the serialised reply of the outputs; equal for requests of equal replies.
    """

    graph: Graph
    rows: Rows
    build: Build


class Heavy:
    """Yielded by a handler whose next step takes longer than a change of threads."""


HEAVY = Heavy()

Done = Callable[[Outputs | Exception], None]
Answer = Message | bytes
Reply = Callable[[bytes | Exception], None]
Steps = Generator[Run | Heavy, Outputs, Answer]
Handled = Answer | Plain | Steps


def answer_with(build: Callable[[T], bytes], reply: Reply, outcome: T | Exception) -> None:
    """Pass on what is built of an outcome, or its error."""
    result: bytes | Exception
    try:
        result = outcome if isinstance(outcome, Exception) else build(outcome)
    except Exception as error:  # noqa: BLE001  every failure is the caller's to see
        result = error
    reply(result)


def serialised(answer: Answer) -> bytes:
    """The bytes of an answer; the commonest ones are bytes already."""
    return answer if isinstance(answer, bytes) else answer.SerializeToString()


class Drive:
    """Takes a handler from run to run until it has a reply or an error, and passes that on, once.

    Each step returns as soon as the handler waits for a graph; whoever has the outputs carries on.
    """

    __slots__ = ("_call", "_reply", "_steps")

    def __init__(self, steps: Steps, call: Call, reply: Reply) -> None:
        """Make ready; `go_on` starts it."""
        self._steps = steps
        self._call = call
        self._reply = reply

    def go_on(self, outcome: Outputs | Exception = ()) -> None:
        """Resume the handler with the outputs of its run, with none, or with the error."""
        steps = self._steps
        if outcome:
            self._call.begun = True
        try:
            step = steps.throw(outcome) if isinstance(outcome, Exception) else _send(steps, outcome)
            while not isinstance(step, Run):
                if self._call.defer is not None:
                    self._call.defer(self.go_on)
                    return
                step = _send(steps, ())
            step.graph.submit(step.rows, self._call, self.go_on)
        except StopIteration as end:
            answer_with(serialised, self._reply, end.value)
        except Exception as error:  # noqa: BLE001  every failure is the caller's to see
            self._reply(error)


def _send(steps: Steps, outputs: Outputs) -> Run | Heavy:
    # A generator that has not begun takes None only.
    return steps.send(outputs) if outputs else next(steps)
