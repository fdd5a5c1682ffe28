"""Which batches the transport's thread runs itself, and which it hands over."""

from vaeserve_server.config import Placement
from vaeserve_server.row_queue import RowQueue
from vaeserve_server.run_times import RunTimes

# Handing a batch over costs two wake-ups, and then several threads want the interpreter. It pays
# for a run that takes longer than that, and longer than the transport's thread could make use of:
# so many times what reading and answering such a batch take. Measured in docs/performance.md.
_COST_S = 400e-6
_TIMES = 3

# What a lone caller's run may keep the transport's thread from: nobody of its graph, but perhaps
# another graph's callers.
_ALONE_S = 1e-3


class HandOver:
    """The rule of one queue; the batcher guards it."""

    def __init__(
        self, run_times: RunTimes, placement: Placement, max_rows: int, *, may_wait: bool
    ) -> None:
        """Know nothing of answers yet.

        Args:
            run_times: of the graph.
            placement: `auto` goes by measured times, the others are fixed.
            max_rows: most rows of a batch.
            may_wait: whether batches may wait for company, which the transport's thread cannot.
        """
        self._run_times = run_times
        self._max_rows = max_rows
        self._answer_times = RunTimes()  # by requests
        self._placement = "thread" if may_wait else placement

    def pays(self, queue: RowQueue, in_flight: int, reading_s: float) -> bool:
        """Whether the next batch shall be handed over.

        Args:
            queue: where it waits.
            in_flight: requests that are not answered, those that wait included. If there are no
                others, there is nothing to read or to answer meanwhile.
            reading_s: seconds that the transport's thread takes to read a request.
        """
        if self._placement != "auto":
            return self._placement == "thread"
        rows = min(queue.rows, self._max_rows)
        run_s = self._run_times.fastest(rows)
        if run_s < (_ALONE_S if in_flight == len(queue) else _COST_S):
            return False
        requests = min(len(queue), rows)
        return run_s >= _TIMES * (requests * reading_s + self._answer_times.fastest(requests))

    def answered(self, requests: int, run_s: float, seconds: float) -> None:
        """Note how long the answering of a batch took whose run took `run_s`."""
        if run_s >= _COST_S:  # of shorter ones nobody asks
            self._answer_times.record(requests, seconds)
