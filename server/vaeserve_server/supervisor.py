"""Several worker processes behind one port and one /metrics.

The kernel spreads connections over the workers (SO_REUSEPORT). The supervisor holds the port,
starts the workers, replaces those that die, adds up their metrics and passes signals on. It serves
no call and loads no model.
"""

import contextlib
import dataclasses
import logging
import os
import queue
import signal
import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry

from vaeserve_server import logs, metrics_endpoint
from vaeserve_server.config import ServerConfig, with_port
from vaeserve_server.errors import StartupError
from vaeserve_server.held_port import HeldPort
from vaeserve_server.worker_messages import Served, WorkerStart
from vaeserve_server.worker_metrics import WorkerMetrics
from vaeserve_server.worker_process import WorkerProcess

_log = logging.getLogger(__name__)

_KILLED_AT_ONCE = 1
_DRAINED_BADLY = 1

# How much of a worker's counts its death may cost.
_POLL_S = 1.0

# A worker is replaced after 0.1 s, then 0.2, 0.4, ... until one has lived for a while.
_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 30.0
_LIVED_A_WHILE_S = 60.0

# Nobody is ready and this many in a row have died before they were: it will not get better.
_MAX_FAILED_STARTS = 5

# Beyond the time that a worker gives itself to drain.
_DRAIN_MARGIN_S = 10.0


class Supervisor:
    """One run of `vaeserve serve --workers N`."""

    def __init__(self, config: ServerConfig) -> None:
        """Nothing is started yet."""
        self._config = config
        self._metrics = WorkerMetrics()
        self._workers: dict[int, WorkerProcess] = {}
        self._serving: set[int] = set()  # numbers of those that are ready
        # By number of the worker: when it is to be started, and how often in a row it has died.
        self._due = dict.fromkeys(range(config.workers), 0.0)
        self._deaths = dict.fromkeys(range(config.workers), 0)
        self._failed_starts = 0  # in a row, of all workers
        self._like: Served | None = None  # what the first worker that was ready serves
        self._announced = False
        self._stopping = False
        # A worker that is ready or has ended; None for the signal to stop.
        self._news: queue.SimpleQueue[WorkerProcess | None] = queue.SimpleQueue()

    def run(self) -> int:
        """Serve until a signal, on the main thread.

        Returns:
            the exit code: 0 if every worker has drained.

        Raises:
            StartupError: an address is taken, or workers cannot start.
        """
        registry = CollectorRegistry()
        registry.register(self._metrics)
        with contextlib.ExitStack() as undo:
            held = HeldPort(self._config.address)
            undo.callback(held.close)
            endpoint, metrics_port = metrics_endpoint.listen(self._config.metrics_address, registry)
            undo.callback(endpoint.server_close)
            undo.callback(endpoint.shutdown)
            undo.callback(self._kill_all)
            self._config = dataclasses.replace(
                self._config,
                address=with_port(self._config.address, held.port),
                metrics_address=with_port(self._config.metrics_address, metrics_port),
            )
            signal.signal(signal.SIGTERM, self._on_signal)
            signal.signal(signal.SIGINT, self._on_signal)
            _log.info("starting workers", extra={"workers": self._config.workers})
            for worker in self._changed_workers():
                if worker.exit_code is None:
                    self._ready(worker)
                else:
                    self._replace(worker)
            return self._drain()

    def _changed_workers(self) -> Iterator[WorkerProcess]:
        """Start workers and poll metrics when due; yield workers that are ready or have ended."""
        poll = time.monotonic()
        while True:
            now = time.monotonic()
            for number in [number for number, due in self._due.items() if due <= now]:
                self._start(number)
            if poll <= now:
                self._metrics.poll()
                poll = now + _POLL_S
            try:
                worker = self._news.get(timeout=max(0.0, min((poll, *self._due.values())) - now))
            except queue.Empty:
                continue
            if worker is None:
                return
            # A worker that was ready and died before this loop came to it is told twice.
            if self._workers.get(worker.number) is worker:
                yield worker

    def _start(self, number: int) -> None:
        del self._due[number]
        start = WorkerStart(number, self._config, self._like)
        try:
            worker = WorkerProcess(start, self._news.put)
        except OSError as error:
            # No memory or no process left: not a reason to lose the workers that there are.
            delay = self._postpone(number)
            problem = {"worker": number, "problem": str(error), "again_after_s": delay}
            _log.error("cannot start a worker", extra=problem)
            return
        self._workers[number] = worker
        self._metrics.started(worker, again=self._deaths[number] > 0)

    def _ready(self, worker: WorkerProcess) -> None:
        assert worker.served is not None  # noqa: S101  this is what ready means
        self._like = self._like or worker.served
        if worker.served.versions != self._like.versions:
            # The repository changed between the first starts. The next one is told what to serve.
            _log.warning("worker serves other versions", extra={"worker": worker.number})
            worker.kill()
            return
        self._failed_starts = 0
        _log.info("worker ready", extra={"worker": worker.number, "pid": worker.pid})
        self._serving.add(worker.number)
        if len(self._serving) == self._config.workers and not self._announced:
            self._announced = True
            logs.ready(self._config, worker.served.versions, worker.served.refused)

    def _replace(self, worker: WorkerProcess) -> None:
        """Have a successor started for a worker that has ended.

        Raises:
            StartupError: it is of no use.
        """
        self._forget(worker)
        reason = worker.failure or f"a worker ended with {worker.exit_code} before it was ready"
        if worker.served is None:
            self._failed_starts += 1
            hopeless = worker.failure is not None and not self._announced
            nobody = not self._serving and self._failed_starts >= _MAX_FAILED_STARTS
            if hopeless or nobody:
                raise StartupError(reason)
        if time.monotonic() - worker.started > _LIVED_A_WHILE_S:
            self._deaths[worker.number] = 0
        delay = self._postpone(worker.number)
        _log.error(
            "worker ended",
            extra={
                "worker": worker.number,
                "pid": worker.pid,
                "exit_code": worker.exit_code,
                "problem": worker.failure,
                "again_after_s": delay,
            },
        )

    def _postpone(self, number: int) -> float:
        """Set when a worker is started again.

        Returns:
            after how many seconds.
        """
        self._deaths[number] += 1
        delay = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * (1 << min(self._deaths[number] - 1, 16)))
        self._due[number] = time.monotonic() + delay
        return delay

    def _drain(self) -> int:
        _log.info("draining; another signal ends at once", extra={"workers": len(self._workers)})
        self._due.clear()
        for worker in self._workers.values():
            worker.terminate()
        end = time.monotonic() + self._config.drain_delay_s + self._config.grace_s + _DRAIN_MARGIN_S
        clean = True
        while self._workers:
            try:
                ended = self._news.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                _log.error("workers do not end", extra={"workers": sorted(self._workers)})
                return _DRAINED_BADLY
            if ended is None or ended.exit_code is None or ended.number not in self._workers:
                continue
            self._forget(ended)
            # One that had served nobody may have had no handler yet for the signal.
            if ended.exit_code and ended.served is not None:
                clean = False
                problem = {"worker": ended.number, "exit_code": ended.exit_code}
                _log.error("worker did not drain", extra=problem)
        _log.info("stopped")
        return 0 if clean else _DRAINED_BADLY

    def _forget(self, worker: WorkerProcess) -> None:
        del self._workers[worker.number]
        self._serving.discard(worker.number)
        self._metrics.ended(worker)

    def _on_signal(self, *_: object) -> None:
        if self._stopping:
            for worker in list(self._workers.values()):
                worker.kill()
            os._exit(_KILLED_AT_ONCE)
        self._stopping = True
        self._news.put(None)

    def _kill_all(self) -> None:
        for worker in self._workers.values():
            worker.kill()
        for worker in self._workers.values():
            worker.join()
