"""The answers of one stream in order, whichever of them is ready first; knows no transport."""

from collections import deque
from collections.abc import Iterator

from google.protobuf.message import Message

WINDOW = 16
"""Requests of one stream that may be unanswered; more are not read."""

MOST_BYTES = 4 << 20
"""Once the unanswered requests hold this much, no more is read either."""

Request = bytes | Message
Outcome = bytes | Exception


class Slot:
    """Place of one answer."""

    __slots__ = ("outcome", "size")

    def __init__(self, size: int) -> None:
        self.outcome: Outcome | None = None
        self.size = size


class Window:
    """The unanswered requests of one stream; its user guards it."""

    def __init__(self) -> None:
        """Make it empty and open."""
        self.half_closed = False
        self._slots: deque[Slot] = deque()
        self._held = 0
        self._requests: Iterator[Request] | None = None
        self._request_size = 0

    @property
    def has_room(self) -> bool:
        """Whether another request may be taken on."""
        return len(self._slots) < WINDOW and self._held < MOST_BYTES

    @property
    def wants_message(self) -> bool:
        """Whether the next message should be read."""
        return self.has_room and self._requests is None and not self.half_closed

    @property
    def done(self) -> bool:
        """Whether everything was answered and nothing more will come."""
        return self.half_closed and self._requests is None and not self._slots

    def message(self, requests: Iterator[Request], size: int) -> None:
        """Take on a message: the requests it stands for, and its size in bytes."""
        self._requests, self._request_size = requests, size

    def next_request(self) -> tuple[Request, Slot] | None:
        """The next request to be answered, and the place of its answer; None if there is none now.

        Raises:
            Exception: whatever making the request raises; it ends the message.
        """
        if self._requests is None or not self.has_room:
            return None
        try:
            request = next(self._requests, None)
        except Exception:
            self._requests = None
            raise
        if request is None:
            self._requests = None
            return None
        return request, self.place(self._request_size)

    def place(self, size: int) -> Slot:
        """A place behind all others, for the answer to a request of so many bytes."""
        slot = Slot(size)
        self._held += size
        self._slots.append(slot)
        return slot

    def take(self) -> Outcome | None:
        """The first answer in line, if it is there."""
        if not self._slots or self._slots[0].outcome is None:
            return None
        slot = self._slots.popleft()
        self._held -= slot.size
        return slot.outcome
