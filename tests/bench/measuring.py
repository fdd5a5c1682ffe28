"""One measurement: a load on a server, its answers counted, its CPU time taken."""

import time
from dataclasses import dataclass
from pathlib import Path

from bench.cases import Case, RawGraphs
from bench.h2load import Load, LoadError
from bench.servers import Server

_FIRST_REQUESTS = 200
_FIRST_SECONDS = 0.2
_LONGEST_BATCH_ROWS = 256


@dataclass(frozen=True)
class Measurement:
    """What one load cost.

    Attributes:
        requests_s: requests answered a second.
        rows_s: rows answered a second.
        p50_ms: median latency.
        p99_ms: 99th percentile.
        cpu_us: user and system time of the whole server, microseconds a request.
    """

    requests_s: float
    rows_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


class Target:
    """A server under one kind of request.

    Args:
        server: which.
        case: what it is asked.
        request: the serialised request.
        reply_bytes: length of the right reply.
        folder: for the body and the log of h2load.
    """

    def __init__(
        self, server: Server, case: Case, request: bytes, reply_bytes: int, folder: Path
    ) -> None:
        self.server = server
        self.case = case
        self.request = request
        self.reply_bytes = reply_bytes
        self.folder = folder
        self.load = Load(server.url(case), request, reply_bytes, folder)
        self._rates: dict[int, float] = {}

    def closed_loop(self, streams: int, seconds: float) -> Measurement:
        """Measure for about so long; the first time, find out how many requests that takes.

        Raises:
            LoadError: an answer is missing, is of another size, or was not counted as OK.
        """
        if streams not in self._rates:
            self._rates[streams] = self._rate(streams)
        requests = max(_FIRST_REQUESTS, round(seconds * self._rates[streams]))
        counted = self.server.handled(self.case)
        cpu = self.server.process.cpu_seconds()
        shot = self.load.closed_loop(streams, requests)
        cpu = self.server.process.cpu_seconds() - cpu
        if counted is not None:
            self._require_counted(counted + requests)
        rate = shot.requests / shot.seconds
        cpu_us = cpu / requests * 1e6
        return Measurement(rate, rate * self.case.rows, shot.p50_ms, shot.p99_ms, cpu_us)

    def _rate(self, streams: int) -> float:
        shot = self.load.closed_loop(streams, _FIRST_REQUESTS)
        # Again, for the first has found a cold server.
        requests = max(_FIRST_REQUESTS, round(_FIRST_SECONDS * shot.requests / shot.seconds))
        shot = self.load.closed_loop(streams, requests)
        return shot.requests / shot.seconds

    def _require_counted(self, wanted: int) -> None:
        found = self.server.handled(self.case)
        if found != wanted:
            raise LoadError(f"{self.server.name} has counted {found} calls as OK, not {wanted}")


def raw_runs(raw: RawGraphs, case: Case, streams: int, seconds: float) -> Measurement:
    """Baseline (a): the graph alone, batched as a service with so many callers would see it."""
    batch = min(streams * case.rows, _LONGEST_BATCH_ROWS)
    rows = Case(case.model, case.rpc, batch).input()
    raw.run(case.graph, rows)
    times = []
    cpu, end = time.process_time(), time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        raw.run(case.graph, rows)
        times.append(time.perf_counter() - began)
    cpu = time.process_time() - cpu
    times.sort()
    rows_s = batch * len(times) / sum(times)
    requests = batch * len(times) / case.rows
    return Measurement(
        requests_s=rows_s / case.rows,
        rows_s=rows_s,
        p50_ms=times[len(times) // 2] * 1e3,
        p99_ms=times[int(len(times) * 0.99)] * 1e3,
        cpu_us=cpu / requests * 1e6,
    )
