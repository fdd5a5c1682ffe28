"""Calls on the lane: where they come in, and the life of a unary one."""

import threading
import time
from collections.abc import Callable
from typing import Any

import grpc

from vaeserve_server import core_queue as core
from vaeserve_server.call import Call
from vaeserve_server.carrier import Carrier
from vaeserve_server.core_queue import Event, Trailers
from vaeserve_server.errors import Overloaded, Unauthenticated
from vaeserve_server.methods import Method
from vaeserve_server.observers import RpcMetrics
from vaeserve_server.quota import SMALL_ANSWER
from vaeserve_server.status import ONE_MESSAGE, RpcStatus, status_of
from vaeserve_server.timing import ASK, timing_trailer
from vaeserve_server.tokens import Guard

# Seconds since 1970; a later deadline is none.
_NEVER = 1e11

NO_MESSAGE: tuple[int, str, Trailers] = (ONE_MESSAGE.code.value[0], ONE_MESSAGE.details, ())


class Door:
    """Where the calls of one method come in.

    Attributes:
        method: which.
        metrics: its series.
        carrier: shared by all.
    """

    __slots__ = ("_ask", "_kind", "carrier", "method", "metrics")

    def __init__(
        self,
        queue: core.CoreQueue,
        method: Method,
        metrics: RpcMetrics,
        carrier: Carrier,
        kind: "Kind",
    ) -> None:
        """Register the method; before the server is started.

        Args:
            queue: where they arrive.
            method: which.
            metrics: its series.
            carrier: shared by all.
            kind: makes a call of an arrival.
        """
        self._kind = kind
        self.method = method
        self.metrics = metrics
        self.carrier = carrier
        self._ask = queue.register(method.path, self)

    def open(self) -> None:
        """Ask for one more call."""
        try:
            self._ask()
        except ValueError:
            return  # the server is stopping: no more will come

    def __call__(self, event: Event) -> None:
        """A call has come in, or, without success, none will any more."""
        if not event.success:
            return
        self.open()
        # From here on the queue is not shut down before the call is over.
        carrier = self.carrier
        carrier.in_flight += 1
        if carrier.closed:
            carrier.over()
            return
        self.metrics.calls += 1
        self._kind(self, event).begin()


Kind = Callable[[Door, Event], "LaneCall"]


class LaneCall(Call):
    """What unary calls and streams have in common."""

    __slots__ = ("_began", "_core", "_door")

    def __init__(self, door: Door, event: Event) -> None:
        self._began = now = time.monotonic()
        deadline = core.deadline_of(event)
        self.deadline = None if deadline > _NEVER else now + deadline - time.time()
        self.cancelled = False
        self.begun = False
        self.timings = [] if ASK in core.metadata_of(event) else None
        self.defer = door.carrier.defer
        self._door = door
        self._core: Any = event.call

    def begin(self) -> None:
        """Ask C-core for what comes first."""
        raise NotImplementedError

    def _count(self, end: grpc.StatusCode) -> None:
        """Count the end of the call."""
        seconds = time.monotonic() - self._began
        if end is grpc.StatusCode.OK:
            self._door.metrics.succeeded(seconds)
        else:
            self._door.metrics.failed(end, seconds)

    def _end_of(self, event: Event, sent: grpc.StatusCode) -> grpc.StatusCode:
        """How a call really ended: with the status that was sent, or before it."""
        if core.was_cancelled(event):
            return status_of(self.left(time.monotonic()), self._door.method.path).code
        return sent


class RefusedCall(LaneCall):
    """A call that may not be made; it ends before anything of it is read."""

    __slots__ = ("_error",)

    def __init__(self, door: Door, event: Event, error: Exception) -> None:
        super().__init__(door, event)
        self._error = error

    def begin(self) -> None:
        """Send the status."""
        door = self._door
        status = status_of(self._error, door.method.path)
        self._count(status.code)
        core.end(self._core, *on_the_wire(status), door.carrier.over, first=True, watched=False)


def guarded(kind: Kind, guard: Guard) -> Kind:
    """Calls of a kind, if they may be made."""

    def admit(door: Door, event: Event) -> LaneCall:
        try:
            guard(core.metadata_of(event))
        except Unauthenticated as error:
            return RefusedCall(door, event, error)
        return kind(door, event)

    return admit


class UnaryCall(LaneCall):
    """One message, one answer.

    Attributes:
        answered: whether the answer was sent.
    """

    __slots__ = ("_watching", "answered")

    def begin(self) -> None:
        """Ask for the message."""
        self.answered = False
        self._watching = threading.Lock()
        core.receive_message(self._core, self._received)

    def watch(self) -> None:
        """Have `cancelled` set when the caller goes away."""
        # Who gets the lock, this or the answer, asks C-core for the end of the call; once only.
        if self._watching.acquire(blocking=False):
            core.watch(self._core, self._closed)

    def _received(self, event: Event) -> None:
        data = core.message_of(event)
        door = self._door
        if data is None:
            # The caller has ended its side, or the call is over already: then this changes nothing.
            core.end(self._core, *NO_MESSAGE, self._over, first=True, watched=False)
            return
        door.metrics.messages += 1
        door.carrier.large.answer(door.method, data, self, self._reply)
        if not self.answered:
            door.carrier.left_open.append(self)

    def _over(self, event: Event) -> None:
        self._count(self._end_of(event, grpc.StatusCode.UNIMPLEMENTED))
        self._door.carrier.over()

    def _closed(self, event: Event) -> None:
        if core.was_cancelled(event):
            self.cancelled = True

    def _reply(self, outcome: bytes | Exception) -> None:
        """Send the answer, from whichever thread has it."""
        self.answered = True
        # If nobody watches for the end of the call yet, that is ours to do.
        watched = not self._watching.acquire(blocking=False)
        door = self._door
        if isinstance(outcome, Exception):
            self._fail(outcome, watched=watched)
            return
        over: core.Tag = door.carrier.over
        if len(outcome) > SMALL_ANSWER:
            try:
                over = door.carrier.hold(len(outcome))
            except Overloaded as refusal:
                self._fail(refusal, watched=watched)
                return
        door.metrics.succeeded(time.monotonic() - self._began)
        trailers = timing_trailer(self)
        door.carrier.reply(core.reply(self._core, outcome, trailers, over, watched=watched))

    def _fail(self, error: Exception, *, watched: bool) -> None:
        door = self._door
        status = status_of(error, door.method.path)
        self._count(status.code)
        over = door.carrier.over
        core.end(self._core, *on_the_wire(status), over, first=True, watched=watched)


def on_the_wire(status: RpcStatus) -> tuple[int, str, Trailers]:
    """Code, message and trailers of a status."""
    return status.code.value[0], status.details, status.trailing_metadata
