"""What company in the caches costs: the same work in a loop, and right after a call of gRPC.

A server's run and its batcher's turn always come right after gRPC and the kernel have used the
caches; what they take in a loop is never seen there.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np

from bench.cases import Case, RawGraphs
from bench.servers import Server
from vaeserve_server.batcher import Batcher
from vaeserve_server.call import Call, Outputs
from vaeserve_server.engine import Slot
from vaeserve_server.metrics import Metrics
from vaeserve_server.packing import Buffers, Packer, Sent
from vaeserve_server.run_times import RunTimes
from vaeserve_server.turn import Turn

_REQUESTS = (1, 8, 64)
_TIMES = 100
_MAX_ROWS = 256


class _NoGraph:
    """An engine whose runs take no time."""

    provider = "none"
    waited_s = 0.0

    def __init__(self, latent: int) -> None:
        self._outputs = np.zeros((_MAX_ROWS, latent), np.float32)

    def bucket(self, rows: int) -> int:
        return rows

    def run(self, rows: Any, *, as_levels: bool) -> Outputs:
        del as_levels
        output = self._outputs[: len(rows)]
        return output, output


def after_calls(raw: RawGraphs, case: Case, echo: Server, repeat: int) -> dict[str, float]:
    """Microseconds of a run and of a batch without its run, by the number of one-row requests.

    Args:
        raw: the graph's run.
        case: one row.
        echo: a bare echo, which is called in between.
        repeat: how often; medians are returned.
    """
    found = {}
    with grpc.insecure_channel(echo.address) as channel:
        method: Any = channel.unary_unary(echo.wire.path(case))
        request = echo.wire.request(case)

        def call() -> None:
            method(request, timeout=30)

        for count in _REQUESTS:
            rows = Case(case.model, case.rpc, count).input()

            def run(rows: Any = rows) -> None:
                raw.run(case.graph, rows)

            for name, work in (("run", run), ("batch", _batches(case, count))):
                loop, after = zip(*(_pair(work, call) for _ in range(repeat)), strict=True)
                found[f"{name}_{count}_us"] = statistics.median(loop)
                found[f"{name}_{count}_after_call_us"] = statistics.median(after)
    return found


def _pair(work: Callable[[], None], call: Callable[[], None]) -> tuple[float, float]:
    """Microseconds in a loop, and after a call each."""
    work()
    began = time.perf_counter()
    for _ in range(_TIMES):
        work()
    loop = (time.perf_counter() - began) / _TIMES
    after = []
    for _ in range(_TIMES):
        call()
        began = time.perf_counter()
        work()
        after.append(time.perf_counter() - began)
    return loop * 1e6, statistics.median(after) * 1e6


def _batches(case: Case, count: int) -> Callable[[], None]:
    turn = Turn()
    turn.own()
    packer = Packer(Buffers(np.zeros((_MAX_ROWS, *case.model.row_shape), np.float32)), field="x")
    batcher = Batcher(
        [Slot(_NoGraph(case.model.latent), packer)],
        name="bench",
        max_rows=_MAX_ROWS,
        max_queue_rows=_MAX_ROWS,
        max_delay_s=0.0,
        run_times=RunTimes(),
        observer=Metrics().graph(case.model.name, "encoder"),
        on_death=lambda _: None,
        turn=turn,
        placement="inline",
    )
    rows = case.input()
    row = Sent(memoryview(rows.tobytes()), rows.shape, rows.dtype)

    def work() -> None:
        for _ in range(count):
            batcher.submit(row, Call(), lambda _: None)
        turn.end()

    return work
