"""What a graph has done since the server started, in whole numbers that fit together.

Prometheus series are read one by one; a reader of these gets all of them of one moment.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace


@dataclass
class BatchCount:
    """Batches of one size.

    Attributes:
        batches: how many ran.
        run_ns: nanoseconds they ran.
    """

    batches: int = 0
    run_ns: int = 0


@dataclass
class GraphCount:
    """Totals of one graph.

    Attributes:
        requests: answered by a run.
        rows: run, padding left out.
        queue_ns: nanoseconds that requests waited.
        run_ns: nanoseconds of runs, counted for every request of the batch.
        last_ms: when the last batch ended, milliseconds since 1970; 0 before the first.
        batches: by rows.
    """

    requests: int = 0
    rows: int = 0
    queue_ns: int = 0
    run_ns: int = 0
    last_ms: int = 0
    batches: dict[int, BatchCount] = field(default_factory=dict)


class GraphStatistics:
    """Counts the batches of one graph; any thread may count and read."""

    def __init__(self, settle: Callable[[], None]) -> None:
        """Start at 0.

        Args:
            settle: called before reading; counts what was kept.
        """
        self._settle = settle
        self._lock = threading.Lock()
        self._count = GraphCount()

    def ran(self, rows: int, seconds: float, waits: Sequence[float], ended: float) -> None:
        """Count a batch.

        Args:
            rows: its rows.
            seconds: run time.
            waits: seconds that each of its requests had waited.
            ended: when, seconds since 1970.
        """
        run_ns = round(seconds * 1e9)
        queue_ns = round(sum(waits) * 1e9)
        with self._lock:
            count = self._count
            count.requests += len(waits)
            count.rows += rows
            count.queue_ns += queue_ns
            count.run_ns += run_ns * len(waits)
            count.last_ms = int(ended * 1000)
            batch = count.batches.get(rows)
            if batch is None:
                batch = count.batches[rows] = BatchCount()
            batch.batches += 1
            batch.run_ns += run_ns

    def read(self) -> GraphCount:
        """A copy of all totals, of one moment."""
        self._settle()
        with self._lock:
            batches = {rows: replace(batch) for rows, batch in self._count.batches.items()}
            return replace(self._count, batches=batches)
