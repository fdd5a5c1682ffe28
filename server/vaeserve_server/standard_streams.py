"""Streams on the standard transport: requests are read by a thread, answered in order by another.

For whoever waits for the next request cannot also wait for an answer.
"""

import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import grpc

from vaeserve_server.call import Call
from vaeserve_server.large_messages import LargeMessages
from vaeserve_server.methods import Method
from vaeserve_server.observers import RpcMetrics
from vaeserve_server.quota import Quota
from vaeserve_server.stream import Outcome, Slot, Window


class Shared(NamedTuple):
    """What all calls of the transport share.

    Attributes:
        large: takes large messages.
        unread: counts answers until they are sent.
    """

    large: LargeMessages
    unread: Quota


class StreamCall:
    """One stream: its requests answered in order, several of them at a time."""

    def __init__(self, method: Method, call: Call, metrics: RpcMetrics, shared: Shared) -> None:
        """Take nothing on yet.

        Args:
            method: answers its requests.
            call: who waits for the answers.
            metrics: the method's series.
            shared: by all calls.
        """
        self._method = method
        self._call = call
        self._metrics = metrics
        self._shared = shared
        self._window = Window(shared.unread)
        self._closed = False
        self._changed = threading.Condition()

    def answers(self, messages: Iterator[bytes]) -> Iterator[bytes]:
        """The answers to its messages; the first error is raised."""
        threading.Thread(
            target=self._read, args=(messages,), name="stream-reader", daemon=True
        ).start()
        try:
            while (outcome := self._next()) is not None:
                if isinstance(outcome, Exception):
                    raise outcome
                self._metrics.sent()
                yield outcome
                with self._changed:
                    self._window.sent()
        finally:
            self._call.cancelled = True
            with self._changed:
                self._closed = True
                self._window.close()
                self._changed.notify_all()

    def _next(self) -> Outcome | None:
        """Wait for the next answer; None once there will be none."""
        with self._changed:
            while (outcome := self._window.take()) is None and not self._window.done:
                self._changed.wait()
            self._changed.notify_all()  # there is room again
            return outcome

    def _read(self, messages: Iterator[bytes]) -> None:
        error: Exception | None = None
        try:
            for data in messages:
                self._metrics.received()
                for request in self._method.requests(data):
                    slot = self._place(len(data))
                    if slot is None:
                        return
                    fill = partial(self._fill, slot)
                    self._shared.large.answer(self._method, request, self._call, fill)
        except Exception as failure:  # noqa: BLE001  the stream ends with it
            # grpcio says no more than this of a caller who is gone.
            left = isinstance(failure, grpc.RpcError)
            error = self._call.left(time.monotonic()) if left else failure
        with self._changed:
            if error is not None:
                self._window.fill(self._window.place(0), error)
            self._window.half_closed = True
            self._changed.notify_all()

    def _place(self, size: int) -> Slot | None:
        """Wait for room for a request of so many bytes; None once nobody reads the answers."""
        with self._changed:
            while not self._closed and not self._window.has_room:
                self._changed.wait()
            return None if self._closed else self._window.place(size)

    def _fill(self, slot: Slot, outcome: Outcome) -> None:
        self._call.begun = True
        with self._changed:
            self._window.fill(slot, outcome)
            self._changed.notify_all()
