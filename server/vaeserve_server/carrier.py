"""What the calls of a lane share."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from vaeserve_server import core_queue as core
from vaeserve_server.core_queue import Event
from vaeserve_server.large_messages import LargeMessages
from vaeserve_server.quota import unread_answers

_POLL_S = 0.005

_log = logging.getLogger(__name__)

Defer = Callable[[Callable[[], None]], object]


class OpenCall(Protocol):
    """A call that was not answered in the turn in which it came."""

    answered: bool

    def watch(self) -> None:
        """Have it told when the caller goes away."""


class Carrier:
    """What all calls of a lane share; its thread alone changes it.

    Attributes:
        defer: runs a step on another thread.
        large: messages that are answered there.
        unread: counts answers until they are sent.
        in_flight: calls begun and not over.
        closed: whether the server has stopped, so that no call may be begun.
        left_open: calls that were not answered at once.
        thread: the lane's.
    """

    def __init__(self, defer: Defer) -> None:
        """Make it idle."""
        self.defer = defer
        self.large = LargeMessages(defer)
        self.unread = unread_answers()
        self.in_flight = 0
        self.closed = False
        self.left_open: list[OpenCall] = []
        self.thread = 0
        self._answers: list[core.Start] = []

    def reply(self, send: core.Start) -> None:
        """Send the answer of a unary call; on the lane's thread it waits for `send`.

        Python and C-core, taking turns for every answer, would throw each other out of the caches.
        """
        if threading.get_ident() == self.thread:
            self._answers.append(send)
        else:
            send()

    def send(self) -> None:
        """Send the answers that wait; on the lane's thread."""
        for send in self._answers:
            try:
                send()
            except Exception:  # noqa: BLE001  the other callers get theirs
                _log.exception("an answer could not be sent")
        self._answers.clear()

    def over(self, _: Event = None) -> None:
        """A call needs the queue no longer."""
        self.in_flight -= 1

    def hold(self, size: int) -> Callable[[Event], None]:
        """Count a large answer until its call is over.

        Returns:
            what is to be told of that, in the place of `over`.

        Raises:
            Overloaded: no memory is left for it.
        """
        self.unread.acquire(size)

        def over(_: Event) -> None:
            self.unread.release(size)
            self.over()

        return over

    def end_turn(self) -> None:
        """Send what was answered, and have us told if callers leave that are still unanswered.

        Asking costs about as much as parsing the request; most calls are answered in the turn in
        which they came, and are spared it.
        """
        self.send()
        for call in self.left_open:
            if not call.answered:
                call.watch()
        self.left_open.clear()

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait until no call needs the queue; False if the time ran out."""
        end = time.monotonic() + timeout_s
        while self.in_flight:
            if time.monotonic() >= end:
                return False
            time.sleep(_POLL_S)
        return True
