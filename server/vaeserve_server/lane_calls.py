"""The life of one call on the lane: unary, or a stream."""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc

from vaeserve_server import core_queue as core
from vaeserve_server.call import Answer, Call
from vaeserve_server.core_queue import Event, Trailers
from vaeserve_server.methods import SERVER_STREAM, Method, serialised
from vaeserve_server.metrics import RpcMetrics
from vaeserve_server.status import RpcStatus, status_of
from vaeserve_server.stream import Slot, Window
from vaeserve_server.timing import asked_for_timing, timing_trailer

# Parsing a message of more bytes takes longer than giving it to another thread.
_LARGE_BYTES = 256 * 1024

# A deadline so far away is none.
_YEAR_S = 365 * 86400.0

_POLL_S = 0.005

_NO_MESSAGE: tuple[int, str, Trailers] = (
    grpc.StatusCode.UNIMPLEMENTED.value[0],
    "the method takes exactly one message",
    (),
)

Defer = Callable[[Callable[[], None]], object]


class Carrier:
    """What all calls of a lane share; its thread alone changes it.

    Attributes:
        defer: runs a step on another thread.
        in_flight: calls begun and not over.
        closed: whether the server has stopped, so that no call may be begun.
    """

    def __init__(self, defer: Defer) -> None:
        """Make it idle."""
        self.defer = defer
        self.in_flight = 0
        self.closed = False
        self._unanswered: list[UnaryCall] = []

    def begun(self) -> None:
        """A call has come in."""
        self.in_flight += 1

    def over(self, _: Event = None) -> None:
        """A call needs the queue no longer."""
        self.in_flight -= 1

    def left_open(self, call: "UnaryCall") -> None:
        """A call has not been answered at once."""
        self._unanswered.append(call)

    def watch_unanswered(self) -> None:
        """At the end of a turn: have us told if callers leave that are still unanswered.

        Asking costs about as much as parsing the request; most calls are answered in the turn in
        which they came, and are spared it.
        """
        for call in self._unanswered:
            call.watch()
        self._unanswered.clear()

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait until no call needs the queue; False if the time ran out."""
        end = time.monotonic() + timeout_s
        while self.in_flight:
            if time.monotonic() >= end:
                return False
            time.sleep(_POLL_S)
        return True


class _LaneCall(Call):
    """What unary calls and streams have in common."""

    __slots__ = ("_began", "_carrier", "_core", "_method", "_metrics")

    def __init__(self, carrier: Carrier, method: Method, metrics: RpcMetrics, event: Event) -> None:
        now = time.monotonic()
        remaining = core.deadline_of(event) - time.time()
        self.deadline = now + remaining if remaining < _YEAR_S else None
        self.cancelled = False
        self.timings = None
        self.defer = carrier.defer
        self._carrier = carrier
        self._method = method
        self._metrics = metrics
        self._core: Any = event.call
        self._began = now
        carrier.begun()

    def _count(self, end: grpc.StatusCode) -> None:
        """Count the end of the call."""
        seconds = time.monotonic() - self._began
        if end is grpc.StatusCode.OK:
            self._metrics.succeeded(seconds)
        else:
            self._metrics.failed(end, seconds)

    def _end_of(self, event: Event, sent: grpc.StatusCode) -> grpc.StatusCode:
        """How a call really ended: with the status that was sent, or before it."""
        if core.was_cancelled(event):
            return status_of(self.left(time.monotonic()), self._method.path).code
        return sent


class UnaryCall(_LaneCall):
    """One message, one answer."""

    __slots__ = ("_answered", "_watching")

    def begin(self, event: Event) -> None:
        """Ask for the message."""
        if asked_for_timing(event.invocation_metadata):
            self.timings = []
        self._answered = False
        self._watching = threading.Lock()
        core.receive_message(self._core, self._received)

    def watch(self) -> None:
        """Have `cancelled` set when the caller goes away."""
        # Who gets the lock, this or the answer, asks C-core for the end of the call; once only.
        if not self._answered and self._watching.acquire(blocking=False):
            core.watch(self._core, self._closed)

    def _received(self, event: Event) -> None:
        data = core.message_of(event)
        if data is None:
            # The caller has ended its side, or the call is over already: then this changes nothing.
            core.end(self._core, *_NO_MESSAGE, self._over, first=True, watched=False)
            return
        self._metrics.received()
        if len(data) > _LARGE_BYTES:
            self._carrier.defer(lambda: self._method.answer(data, self, self._reply))
        else:
            self._method.answer(data, self, self._reply)
        if not self._answered:
            self._carrier.left_open(self)

    def _over(self, event: Event) -> None:
        self._count(self._end_of(event, grpc.StatusCode.UNIMPLEMENTED))
        self._carrier.over()

    def _closed(self, event: Event) -> None:
        if core.was_cancelled(event):
            self.cancelled = True

    def _reply(self, outcome: Answer | Exception) -> None:
        """Send the answer, from whichever thread has it."""
        over = self._carrier.over
        if isinstance(outcome, Exception):
            status = status_of(outcome, self._method.path)
            self._count(status.code)
            watched = self._claim()
            core.end(self._core, *_on_the_wire(status), over, first=True, watched=watched)
            return
        data = serialised(outcome)
        self._count(grpc.StatusCode.OK)
        core.reply(self._core, data, timing_trailer(self), over, watched=self._claim())

    def _claim(self) -> bool:
        """Whether the end of the call is watched already; if not, it is ours to watch."""
        self._answered = True
        return not self._watching.acquire(blocking=False)


class StreamCall(_LaneCall):
    """Many messages, each answered in turn.

    Requests are taken on by the lane's thread alone; answers come from any thread.
    """

    __slots__ = ("_first", "_lock", "_over", "_reading", "_sending", "_sent_status", "_window")

    def begin(self, _: Event) -> None:
        """Ask for the end and for the first message."""
        self._first = True
        self._over = False
        self._reading = False
        self._sending = False
        self._sent_status = grpc.StatusCode.OK
        self._lock = threading.Lock()
        self._window = Window()
        core.watch(self._core, self._closed)
        self._pull()

    def _pull(self) -> None:
        """Take on requests while there is room, then ask for another message."""
        while True:
            with self._lock:
                if self._over:
                    return
                try:
                    taken = self._window.next_request()
                except Exception as error:  # noqa: BLE001  it ends the stream, in its turn
                    self._end_with(error)
                    return
                if taken is None:
                    if self._window.wants_message and not self._reading:
                        self._reading = True
                        core.receive_message(self._core, self._received)
                    self._send()
                    return
            request, slot = taken
            self._method.answer_request(request, self, partial(self._fill, slot))

    def _received(self, event: Event) -> None:
        data = core.message_of(event)
        with self._lock:
            self._reading = False
            one = self._method.kind == SERVER_STREAM
            if data is None:
                self._window.half_closed = True
                if one and not self._over:
                    self._end(grpc.StatusCode.UNIMPLEMENTED, *_NO_MESSAGE)
                self._send()
                return
            self._metrics.received()
            self._window.half_closed = one
            try:
                self._window.message(self._method.requests(data), len(data))
            except Exception as error:  # noqa: BLE001
                self._end_with(error)
                return
        self._pull()

    def _fill(self, slot: Slot, outcome: Answer | Exception) -> None:
        with self._lock:
            slot.outcome = outcome
            self._send()

    def _end_with(self, error: Exception) -> None:
        """Let the stream end with an error, once all before it is answered."""
        self._window.place().outcome = error
        self._window.half_closed = True
        self._send()

    def _send(self) -> None:
        """Send the next answer if it is its turn, or end; the lock is held."""
        if self._sending or self._over:
            return
        outcome = self._window.take()
        if outcome is None:
            if self._window.done:
                self._end(grpc.StatusCode.OK, 0, "", ())
            return
        if isinstance(outcome, Exception):
            status = status_of(outcome, self._method.path)
            self._end(status.code, *_on_the_wire(status))
            return
        self._sending = True
        self._metrics.sent()
        core.send_message(self._core, serialised(outcome), self._sent, first=self._first)
        self._first = False

    def _sent(self, _: Event) -> None:
        with self._lock:
            self._sending = False
        self._pull()

    def _end(self, status: grpc.StatusCode, code: int, details: str, trailers: Trailers) -> None:
        self._over = True
        self._sent_status = status
        core.end(self._core, code, details, trailers, _nothing, first=self._first, watched=True)

    def _closed(self, event: Event) -> None:
        with self._lock:
            self.cancelled = True
            self._over = True
            self._count(self._end_of(event, self._sent_status))
        self._carrier.over()


def _on_the_wire(status: RpcStatus) -> tuple[int, str, Trailers]:
    return status.code.value[0], status.details, status.trailing_metadata


def _nothing(_: Event) -> None:
    """An event that nobody waits for."""
