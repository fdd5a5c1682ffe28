"""The queue of one graph, and the rule that forms a batch from it; the batcher guards it."""

import logging
import math
from collections import deque
from dataclasses import dataclass, field

from vaeserve_server.call import Call, Done, Outputs, Rows
from vaeserve_server.errors import ServiceError

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Item:
    """A request in the queue.

    Attributes:
        rows: what the packer takes.
        count: how many rows.
        call: deadline and cancellation.
        done: takes the outcome, once.
        enqueued: monotonic time of admission.
    """

    rows: Rows
    count: int
    call: Call
    done: Done | None
    enqueued: float

    def finish(self, outcome: Outputs | Exception) -> None:
        """Pass the outcome on; a second one is nobody's."""
        done, self.done = self.done, None
        if done is None:
            return
        try:
            done(outcome)
        except Exception:  # noqa: BLE001
            # A caller's callback must not take the other callers' thread down.
            _log.exception("a reply failed")


@dataclass(slots=True)
class Batch:
    """What was taken from the queue.

    Attributes:
        items: to be run together.
        dropped: requests that nobody waits for any more, and why.
        rows: how many rows they have.
        full: whether no further row, or not the next request, would fit.
    """

    items: list[Item] = field(default_factory=list)
    dropped: list[tuple[Item, ServiceError]] = field(default_factory=list)
    rows: int = 0
    full: bool = False


class RowQueue:
    """First in, first out, counted in rows.

    Attributes:
        rows: rows that wait.
    """

    def __init__(self) -> None:
        """Make an empty queue."""
        self.rows = 0
        self._items: deque[Item] = deque()

    def __len__(self) -> int:
        return len(self._items)

    def push(self, item: Item) -> None:
        """Add a request at the end."""
        self._items.append(item)
        self.rows += item.count

    def patience_s(self, now: float, max_delay_s: float, run_s: float) -> float:
        """Seconds that the requests in line can still wait for company.

        Args:
            now: monotonic time.
            max_delay_s: longest wait of the first one.
            run_s: seconds that they take once they run, which no deadline may pass before.
        """
        deadlines = (item.call.deadline for item in self._items)
        first = min((moment for moment in deadlines if moment is not None), default=math.inf)
        return max(0.0, min(self._items[0].enqueued + max_delay_s, first - run_s) - now)

    def clear(self) -> list[Item]:
        """Take everything out."""
        items = list(self._items)
        self._items.clear()
        self.rows = 0
        return items

    def take(self, max_rows: int, now: float, batch: Batch | None = None) -> Batch:
        """Take requests in order until the next one does not fit; a request is never split.

        Args:
            max_rows: most rows of the batch.
            now: monotonic time.
            batch: what they are added to; None for a new one.
        """
        batch = batch or Batch()
        while self._items and not batch.full:
            item = self._items[0]
            call = item.call
            error = call.gone(now) if call.cancelled or call.deadline is not None else None
            if error is None and batch.items and batch.rows + item.count > max_rows:
                batch.full = True
                break
            self._items.popleft()
            self.rows -= item.count
            if error is None:
                batch.items.append(item)
                batch.rows += item.count
                batch.full = batch.rows >= max_rows
            else:
                batch.dropped.append((item, error))
        return batch
