"""One set of metrics for all workers of a supervisor."""

import threading
import time
from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from vaeserve_server.metrics_merge import lasting, merge
from vaeserve_server.worker_messages import ALL, CHANGES
from vaeserve_server.worker_process import WorkerProcess

# A scrape waits so long for workers that hang; Prometheus itself waits 10 s.
_ANSWER_WITHIN_S = 2.0


class WorkerMetrics(Collector):
    """The sum over the workers that live, as of now, and those that have ended, as last heard.

    What a worker counted after its last answer is lost when it dies. `poll` once a second bounds
    that; a worker that drains sends everything.
    """

    def __init__(self) -> None:
        """No workers yet."""
        self._lock = threading.Lock()
        self._workers: list[WorkerProcess] = []
        self._ended: list[Metric] = []
        self._restarts = 0

    def started(self, worker: WorkerProcess, *, again: bool) -> None:
        """Add a worker; `again` if it replaces another."""
        with self._lock:
            self._workers.append(worker)
            self._restarts += again

    def ended(self, worker: WorkerProcess) -> None:
        """Keep the counts of a worker that has ended."""
        with self._lock:
            self._workers.remove(worker)
            self._ended = merge([self._ended, lasting(_parsed(worker))])

    def poll(self) -> None:
        """Have every worker send its metrics if they have changed; waits for nothing."""
        for worker in self._living():
            worker.ask(CHANGES)

    def collect(self) -> Iterator[Metric]:
        """Called by the registry at each scrape, on any thread."""
        tickets = [(worker, worker.ask(ALL)) for worker in self._living()]
        until = time.monotonic() + _ANSWER_WITHIN_S
        for worker, ticket in tickets:
            worker.wait_answered(ticket, until)
        with self._lock:
            ready = sum(worker.served is not None for worker in self._workers)
            restarts = self._restarts
            parts = [self._ended, *map(_parsed, self._workers)]
        yield from merge(parts)
        yield GaugeMetricFamily("vaeserve_workers", "Worker processes that are ready.", ready)
        yield CounterMetricFamily(
            "vaeserve_worker_restarts", "Worker processes started in place of others.", restarts
        )

    def _living(self) -> list[WorkerProcess]:
        with self._lock:
            return list(self._workers)


def _parsed(worker: WorkerProcess) -> Iterable[Metric]:
    return list(text_string_to_metric_families(worker.metrics.decode()))
