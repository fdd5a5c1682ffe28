"""Bytes that may be held at once for one purpose; whatever comes beyond them is refused."""

import threading

from vaeserve_server.errors import Overloaded

MOST_UNREAD_BYTES = 512 * 1024 * 1024
"""Answers of a server that were made and not yet read by their callers.

They take twice as much: grpcio keeps an answer beside C-core's copy until it is sent.
"""

SMALL_ANSWER = 16 * 1024
"""An answer of no more bytes is not counted: its call alone costs about as much."""

_RETRY_S = 1.0
"""By then something of it may have gone; nothing better is known."""


class Quota:
    """How much of it is held; any thread may ask."""

    def __init__(self, most: int, what: str) -> None:
        """Hold nothing.

        Args:
            most: bytes that may be held.
            what: they are, as callers are told.
        """
        self._most = most
        self._what = what
        self._held = 0
        self._lock = threading.Lock()

    def acquire(self, size: int) -> None:
        """Hold so many bytes more.

        Raises:
            Overloaded: there is no room for them.
        """
        with self._lock:
            if self._held + size > self._most:
                raise Overloaded(
                    f"{self._held} bytes of {self._what} are held already, "
                    f"at most {self._most} may be",
                    retry_after_s=_RETRY_S,
                )
            self._held += size

    def release(self, size: int) -> None:
        """Hold so many bytes less."""
        with self._lock:
            self._held -= size


def unread_answers() -> Quota:
    """That of a transport's answers."""
    return Quota(MOST_UNREAD_BYTES, "answers that nobody has read")
