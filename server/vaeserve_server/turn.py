"""One turn of a transport's loop: what arrived is queued first, then run together."""

import threading
from typing import Protocol


class Due(Protocol):
    """A queue with work in it; `batcher.Batcher` is the real one."""

    def pump(self) -> None:
        """Run what is short on this thread, hand over what is long."""


class Turn:
    """Which thread, if any, runs short batches itself at the end of its turn.

    Attributes:
        full: whether a queue holds a whole batch already, so that waiting gains nothing.
    """

    def __init__(self) -> None:
        """Nobody's: every batch goes to its graph's threads."""
        self.full = False
        self._owner: int | None = None
        self._due: list[Due] = []

    def own(self) -> None:
        """Make the calling thread the one."""
        self._owner = threading.get_ident()

    def add(self, due: Due, *, full: bool) -> bool:
        """Put a queue on the list of this turn.

        Returns:
            whether that was possible: not on any other thread than the owner's.
        """
        if threading.get_ident() != self._owner:
            return False
        if due not in self._due:
            self._due.append(due)
        if full:
            self.full = True
        return True

    def end(self) -> None:
        """Let every queue run; what their callers submit next counts to the same turn."""
        due = self._due
        while due:
            due.pop().pump()
        self.full = False
