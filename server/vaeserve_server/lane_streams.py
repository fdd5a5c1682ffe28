"""The life of a stream on the lane."""

import threading
from functools import partial

import grpc
from google.protobuf.message import Message

from vaeserve_server import core_queue as core
from vaeserve_server.core_queue import Event, Trailers
from vaeserve_server.lane_calls import NO_MESSAGE, LaneCall, on_the_wire
from vaeserve_server.methods import SERVER_STREAM
from vaeserve_server.status import status_of
from vaeserve_server.stream import Slot, Window
from vaeserve_server.timing import timing_trailer


class StreamCall(LaneCall):
    """Many messages, each answered in turn.

    Requests are taken on by the lane's thread alone; answers come from any thread.
    """

    __slots__ = ("_first", "_lock", "_over", "_reading", "_sending", "_sent_status", "_window")

    def begin(self) -> None:
        """Ask for the end and for the first message."""
        self._first = True
        self._over = False
        self._reading = False
        self._sending = False
        self._sent_status = grpc.StatusCode.OK
        self._lock = threading.Lock()
        self._window = Window(self._door.carrier.unread)
        core.watch(self._core, self._closed)
        self._pull()

    def _pull(self) -> None:
        """Take on the parts of a request while there is room, then ask for another message."""
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
                    self._read_on()
                    self._send()
                    return
            self._answer(*taken)

    def _read_on(self) -> None:
        """Ask for another message if there is room for one; the lock is held."""
        if not self._reading and not self._over and self._window.wants_message:
            self._reading = True
            core.receive_message(self._core, self._received)

    def _received(self, event: Event) -> None:
        data = core.message_of(event)
        method = self._door.method
        with self._lock:
            self._reading = False
            one = method.kind == SERVER_STREAM
            if data is None:
                self._window.half_closed = True
                if one and not self._over:
                    self._end(grpc.StatusCode.UNIMPLEMENTED, *NO_MESSAGE)
                self._send()
                return
            self._door.metrics.messages += 1
            self._window.half_closed = one
            if method.parts is None:
                # The common case, in one go.
                slot = self._window.place(len(data))
                self._read_on()
            else:
                try:
                    self._window.message(method.requests(data), len(data))
                except Exception as error:  # noqa: BLE001
                    self._end_with(error)
                    return
        if method.parts is None:
            self._answer(data, slot)
        else:
            self._pull()

    def _answer(self, request: bytes | Message, slot: Slot) -> None:
        door = self._door
        door.carrier.large.answer(door.method, request, self, partial(self._fill, slot))

    def _fill(self, slot: Slot, outcome: bytes | Exception) -> None:
        self.begun = True
        with self._lock:
            self._window.fill(slot, outcome)
            self._send()

    def _end_with(self, error: Exception) -> None:
        """Let the stream end with an error, once all before it is answered."""
        self._window.fill(self._window.place(0), error)
        self._window.half_closed = True
        self._send()

    def _send(self) -> None:
        """Send the next answer if it is its turn, or end; the lock is held."""
        if self._sending or self._over:
            return
        outcome = self._window.take()
        if outcome is None:
            if self._window.done:
                self._end(grpc.StatusCode.OK, 0, "", timing_trailer(self))
            return
        if isinstance(outcome, Exception):
            status = status_of(outcome, self._door.method.path)
            self._end(status.code, *on_the_wire(status))
            return
        self._sending = True
        self._door.metrics.sent()
        core.send_message(self._core, outcome, self._sent, first=self._first)
        self._first = False

    def _sent(self, _: Event) -> None:
        with self._lock:
            self._sending = False
            self._window.sent()
            if self._door.method.parts is None:
                self._read_on()
                self._send()
                return
        self._pull()

    def _end(self, status: grpc.StatusCode, code: int, details: str, trailers: Trailers) -> None:
        self._over = True
        self._sent_status = status
        core.end(self._core, code, details, trailers, core.nothing, first=self._first, watched=True)

    def _closed(self, event: Event) -> None:
        with self._lock:
            self.cancelled = True
            self._over = True
            self._window.close()
            self._count(self._end_of(event, self._sent_status))
        self._door.carrier.over()
