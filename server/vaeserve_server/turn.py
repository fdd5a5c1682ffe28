"""One turn of a transport's loop: what arrived is queued first, then run together."""

import threading
import time
from collections.abc import Callable
from typing import Protocol

# What the fastest reading grows by with every turn: a machine that changes is noticed.
_FORGET = 1.005


class Due(Protocol):
    """A queue with work in it; `batcher.Batcher` is the real one."""

    def pump(self) -> None:
        """Run what is short on this thread, hand over what is long."""


class Turn:
    """Which thread, if any, runs short batches itself at the end of its turn.

    Attributes:
        full: whether a queue holds a whole batch already, so that waiting gains nothing.
        reading_s: seconds from the arrival of a request to its place in a queue, of late: the
            fastest turn's mean. Other threads slow turns down, which must not decide anything.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Nobody's: every batch goes to its graph's threads."""
        self.full = False
        self.reading_s = 0.0
        self._clock = clock
        self._owner: int | None = None
        self._due: list[Due] = []
        self._began = 0.0
        self._added = 0

    def own(self) -> None:
        """Make the calling thread the one."""
        self._owner = threading.get_ident()

    def begin(self) -> None:
        """Something has arrived."""
        self._began = self._clock()

    def add(self, due: Due, *, full: bool) -> bool:
        """Put a queue on the list of this turn.

        Returns:
            whether that was possible: not on any other thread than the owner's.
        """
        if threading.get_ident() != self._owner:
            return False
        self._added += 1
        if due not in self._due:
            self._due.append(due)
        if full:
            self.full = True
        return True

    def end(self, ran: Callable[[], object] = lambda: None) -> None:
        """Let every queue run; what their callers submit next counts to the same turn.

        Args:
            ran: called after each.
        """
        due = self._due
        if due:
            seconds = (self._clock() - self._began) / self._added
            self.reading_s = min(seconds, self.reading_s * _FORGET or seconds)
        while due:
            due.pop().pump()
            ran()
        self._added = 0
        self.full = False
