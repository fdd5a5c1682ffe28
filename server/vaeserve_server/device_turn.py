"""Whose turn it is to compute on a device."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock


class DeviceTurn:
    """Lets one batch compute at a time on a device; copies may overlap that."""

    def __init__(self, *, own_thread: bool) -> None:
        """Free.

        Args:
            own_thread: whether everything shall compute on one thread. CUDA graphs belong to the
                thread that recorded them; handing over costs two changes of threads.
        """
        self._lock = Lock()
        self._thread = ThreadPoolExecutor(1, "device") if own_thread else None

    def run(self, compute: Callable[[], None]) -> float:
        """Compute, once it is this one's turn.

        Returns:
            seconds waited for that.

        Raises:
            Exception: what `compute` raises.
        """
        asked = time.monotonic()
        if self._thread is not None:
            return self._thread.submit(self._computed, compute, asked).result()
        with self._lock:
            return self._computed(compute, asked)

    @staticmethod
    def _computed(compute: Callable[[], None], asked: float) -> float:
        waited_s = time.monotonic() - asked
        compute()
        return waited_s
