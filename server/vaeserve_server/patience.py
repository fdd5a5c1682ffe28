"""An end to waiting for callers, on grpcio's public API: its threads wait for them for ever."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc


class Patience:
    """Cancels the calls that keep a thread waiting for too long.

    One timer for all of them, set for whoever has waited longest: a call costs none of its own.
    """

    def __init__(self, seconds: float) -> None:
        """Nobody waits.

        Args:
            seconds: that a thread may be kept waiting.
        """
        self._seconds = seconds
        self._since: dict[grpc.ServicerContext, float] = {}  # the oldest first
        self._timer: threading.Timer | None = None
        self._closed = False
        self._lock = threading.Lock()

    @contextmanager
    def waiting_for(self, context: grpc.ServicerContext) -> Iterator[None]:
        """What is done meanwhile waits for the caller, and ends once its call is cancelled."""
        with self._lock:
            self._since[context] = time.monotonic()
            if self._timer is None and not self._closed:
                self._look_in(self._seconds)
        try:
            yield
        finally:
            with self._lock:
                self._since.pop(context, None)

    def close(self) -> None:
        """End the timer; after the server, which ends all calls."""
        with self._lock:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()

    def _look(self) -> None:
        with self._lock:
            self._timer = None
            now = time.monotonic()
            while self._since and not self._closed:
                context, since = next(iter(self._since.items()))
                left = since + self._seconds - now
                if left > 0:
                    self._look_in(left)
                    return
                del self._since[context]
                context.cancel()

    def _look_in(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._look)
        self._timer.daemon = True
        self._timer.start()
