"""The answers of one stream in order, whichever of them is ready first; knows no transport."""

from collections import deque
from collections.abc import Iterator

from google.protobuf.message import Message

from vaeserve_server.errors import Overloaded
from vaeserve_server.quota import SMALL_ANSWER, Quota

WINDOW = 16
"""Requests of one stream that may be unanswered; more are not read."""

MOST_BYTES = 4 << 20
"""Once the unsent requests and answers hold this much, no more is read either."""

Request = bytes | Message
Outcome = bytes | Exception


class Slot:
    """Place of one answer.

    Attributes:
        outcome: the answer, once it is there.
        request: bytes of the request.
        size: bytes that it counts for: of the request or of the answer, whichever are more.
        unread: bytes of the answer that the quota counts.
    """

    __slots__ = ("outcome", "request", "size", "unread")

    def __init__(self, request: int, size: int) -> None:
        self.outcome: Outcome | None = None
        self.request = request
        self.size = size
        self.unread = 0


class Window:
    """The unanswered requests of one stream; its user guards it."""

    def __init__(self, unread: Quota) -> None:
        """Make it empty and open.

        Args:
            unread: counts the answers of all streams and calls until they are sent.
        """
        self.half_closed = False
        self._unread = unread
        self._sending = 0
        self._closed = False
        self._slots: deque[Slot] = deque()
        self._held = 0
        # Of an answer. The first request is answered by itself, and tells what to expect.
        self._expected = MOST_BYTES
        self._largest = 0
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
        slot = Slot(size, max(size, self._expected))
        self._held += slot.size
        self._slots.append(slot)
        return slot

    def fill(self, slot: Slot, outcome: Outcome) -> None:
        """Put an outcome into its place; an answer that no memory is left for is refused there."""
        if self._closed:
            return
        answer = 0
        if isinstance(outcome, bytes):
            answer = len(outcome)
            # Later answers may be as large: requests that were taken on cannot be put back.
            self._largest = self._expected = max(self._largest, answer)
            if answer > SMALL_ANSWER:
                try:
                    self._unread.acquire(answer)
                    slot.unread = answer
                except Overloaded as refusal:
                    outcome, answer = refusal, 0
        size = max(slot.request, answer)
        self._held += size - slot.size
        slot.size, slot.outcome = size, outcome

    def take(self) -> Outcome | None:
        """The first answer in line, if it is there; `sent` is to be called when it is sent."""
        if not self._slots or self._slots[0].outcome is None:
            return None
        slot = self._slots.popleft()
        self._held -= slot.size
        self._sending = slot.unread
        return slot.outcome

    def sent(self) -> None:
        """The answer that was taken has been read, or is on its way."""
        if self._sending:
            self._unread.release(self._sending)
            self._sending = 0

    def close(self) -> None:
        """Nobody reads any more: let go of everything, also of what is still to come."""
        self._closed = True
        self._unread.release(self._sending + sum(slot.unread for slot in self._slots))
        self._sending = 0
        self._slots.clear()
