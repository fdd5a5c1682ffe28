"""Reads the server's metrics at the beginning and the end of the measured time."""

import threading
import time

from vaeserve_loadtest.load import Load
from vaeserve_loadtest.server_view import ServerView, read_metrics


class Watch:
    """Reads once at once, to fail early, and then in a thread of its own.

    Args:
        address: HOST:PORT of the server's /metrics.
        load: whose measured time to watch.

    Raises:
        OSError: no metrics there.
    """

    def __init__(self, address: str, load: Load) -> None:
        self._address = address
        self._load = load
        self._before = self._after = read_metrics(address)
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._start = 0.0

    def began(self) -> float:
        """The moment the run begins, which is now; of time.perf_counter."""
        now = time.perf_counter()
        self._start = now + self._load.warmup_s
        self._thread.start()
        return now

    def seen(self) -> ServerView | str:
        """What the server saw in between, or why that cannot be told."""
        self._thread.join()
        if self._failure is not None:
            return str(self._failure)
        try:
            return ServerView.between(self._before, self._after)
        except ValueError as error:
            return f"{self._address}: {error}"

    def _watch(self) -> None:
        try:
            if self._load.warmup_s:  # without, it would miss requests that are due at once
                time.sleep(max(0.0, self._start - time.perf_counter()))
                self._before = read_metrics(self._address)
            time.sleep(max(0.0, self._start + self._load.duration_s - time.perf_counter()))
            self._after = read_metrics(self._address)
        except OSError as error:
            self._failure = error
