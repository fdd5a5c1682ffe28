"""Figures of the service alone: waiting, refusing, starting, resting, streaming."""

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import grpc
import numpy as np

from bench.cases import Case, RawGraphs
from bench.h2load import LoadError
from bench.measuring import Target, raw_runs
from bench.servers import Server, Vaeserve, call_stream, echo

Figures = dict[str, float]
Start = Callable[..., Vaeserve]
"""Starts a server of its own, with further options."""

_Server = TypeVar("_Server", bound=Server)

_OPEN_LOOP_SHARE = 0.8
_KEPT_SHARE = 0.95
_CONNECTIONS = 64
_FULL_ROWS = 256
_PROBES = 200
_FILLERS = 4
_STREAMS, _WINDOW = 8, 4
_STREAM_CHECKS = 3


def open_loop(target: Target, capacity: float, repeat: int, seconds: float) -> Figures:
    """Latency at 80 % of the requests/s that the closed loop of 64 streams reached.

    h2load sends, each of 64 connections at even intervals: the project's own `loadtest` is a Python
    client, which cannot offer so many requests a second.

    Raises:
        LoadError: the rate was not kept, so the latencies are not those of that rate.
    """
    rate = _OPEN_LOOP_SHARE * capacity
    requests = max(_CONNECTIONS, round(seconds * rate))
    shots = [target.load.open_loop(_CONNECTIONS, rate, requests) for _ in range(repeat)]
    kept = statistics.median(shot.requests / shot.seconds for shot in shots) / rate
    if kept < _KEPT_SHARE:
        raise LoadError(f"{kept:.0%} of the open loop's rate of {rate:.0f}/s was kept")
    name = f"{target.case.model.name}_open_loop"
    return {
        f"{name}_requests_s": rate,
        f"{name}_p50_ms": statistics.median(shot.p50_ms for shot in shots),
        f"{name}_p99_ms": statistics.median(shot.p99_ms for shot in shots),
        f"{name}_p99_of_p50": statistics.median(shot.p99_ms / shot.p50_ms for shot in shots),
    }


def alone(target: Target, raw: RawGraphs, home: Path, repeat: int, seconds: float) -> Figures:
    """Latency of one caller beside the bare echo's and the run's."""
    case, found = target.case, Figures()
    with stopping(echo(target.reply_bytes, home / "logs")) as server:
        bare = Target(server, case, target.request, target.reply_bytes, home / "load" / "echo")
        columns: dict[str, list[float]] = {"alone": [], "echo": [], "run": []}
        for _ in range(repeat):
            columns["alone"].append(target.closed_loop(1, seconds).p50_ms)
            columns["echo"].append(bare.closed_loop(1, seconds).p50_ms)
            columns["run"].append(raw_runs(raw, case, 1, seconds / 2).p50_ms)
    for name, values in columns.items():
        found[f"{name}_p50_ms"] = statistics.median(values)
    found["alone_ratio"] = found["alone_p50_ms"] / (found["echo_p50_ms"] + found["run_p50_ms"])
    return found


def footprint(start: Start, repeat: int) -> Figures:
    """Start to ready, and what a server then holds in memory."""
    seconds, sizes = [], []
    for _ in range(repeat):
        with stopping(start()) as server:
            seconds.append(server.wait_until_ready())
            sizes.append(server.process.resident_bytes() / 1e6)
    return {
        "start_to_ready_s": statistics.median(seconds),
        "resident_mb": statistics.median(sizes),
    }


def idle(server: Server, seconds: float = 5) -> Figures:
    """CPU of a server that has worked and has nothing to do, and its memory then."""
    time.sleep(1)  # for what the last load left to be done
    cpu = server.process.cpu_seconds()
    time.sleep(seconds)
    cpu = server.process.cpu_seconds() - cpu
    return {
        "idle_cpu_percent": 100 * cpu / seconds,
        "resident_after_load_mb": server.process.resident_bytes() / 1e6,
    }


def refusal(start: Start, case: Case) -> Figures:
    """Time of one caller's refusal while the queue is full.

    A few callers keep a batch of the most rows running and as many rows waiting; beside them one
    caller asks for a row, again and again.

    Args:
        start: the server's.
        case: one row, of a model whose full batch runs long enough to be met.
    """
    limits = ("--max-rows", str(_FULL_ROWS), "--max-queue-rows", str(_FULL_ROWS))
    with stopping(start(*limits)) as server:
        server.wait_until_ready()
        full = server.wire.request(Case(case.model, case.rpc, _FULL_ROWS))
        one = server.wire.request(case)
        assert full is not None
        assert one is not None
        times = _refused(server, server.wire.path(case), full, one)
    return {
        "refusal_p50_ms": float(np.percentile(times, 50)),
        "refusal_p99_ms": float(np.percentile(times, 99)),
    }


def _refused(server: Server, path: str, full: bytes, one: bytes) -> list[float]:
    stop = threading.Event()

    def fill() -> None:
        with grpc.insecure_channel(server.address) as channel:
            method = channel.unary_unary(path)
            while not stop.is_set():
                try:
                    method(full, timeout=30)
                except grpc.RpcError:
                    stop.wait(0.01)

    fillers = [threading.Thread(target=fill) for _ in range(_FILLERS)]
    for filler in fillers:
        filler.start()
    times: list[float] = []
    end = time.monotonic() + 60
    with grpc.insecure_channel(server.address) as channel:
        method = channel.unary_unary(path)
        while len(times) < _PROBES and time.monotonic() < end:
            began = time.perf_counter()
            try:
                method(one, timeout=30)
            except grpc.RpcError as error:
                took = time.perf_counter() - began
                if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                    times.append(took * 1e3)
            time.sleep(0.005)
    stop.set()
    for filler in fillers:
        filler.join()
    if len(times) < _PROBES:
        raise LoadError(f"only {len(times)} of {_PROBES} refusals were met in a minute")
    return times


def streams(
    server: Server, path: str, target: Target, raw: RawGraphs, repeat: int, seconds: float
) -> Figures:
    """Server CPU of a one-row message of bidirectional streams, each with a few unanswered.

    Args:
        server: that serves them.
        path: of the method, which takes and answers the unary one's messages in order.
        target: the unary case.
        raw: to check the answers by.
        repeat: how often.
        seconds: about how long each.

    Returns:
        nothing where the server has no such method.
    """
    request = target.request
    try:
        replies = call_stream(server.address, path, [request] * _STREAM_CHECKS)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return {}
        raise
    assert len(replies) == _STREAM_CHECKS, f"{len(replies)} replies to {_STREAM_CHECKS} requests"
    for reply in replies:
        server.compare(target.case, reply, raw)
    message = target.folder / "message.bin"
    message.write_bytes(request)
    count = 200
    costs: list[float] = []
    rates: list[float] = []
    for _ in range(repeat + 1):
        cpu, began = server.process.cpu_seconds(), time.perf_counter()
        _stream(server.port, path, message, count, len(replies[0]))
        took = time.perf_counter() - began
        costs.append((server.process.cpu_seconds() - cpu) / (count * _STREAMS) * 1e6)
        rates.append(count * _STREAMS / took)
        count = max(200, round(seconds * rates[0] / _STREAMS))
    return {
        "stream_message_us": statistics.median(costs[1:]),
        "stream_messages_s": statistics.median(rates[1:]),
    }


def _stream(port: int, path: str, message: Path, count: int, reply_bytes: int) -> None:
    command = [sys.executable, "-m", "bench.stream_client", str(port), path, str(message)]
    command += ["--streams", str(_STREAMS), "--window", str(_WINDOW), "--count", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    replies, size = map(int, done.stdout.split())
    wanted = count * _STREAMS
    if (replies, size) != (wanted, wanted * reply_bytes):
        raise LoadError(f"{path}: {replies} replies of {size} bytes to {wanted} messages")


@contextmanager
def stopping(server: _Server) -> Iterator[_Server]:
    """Stop it at the end."""
    try:
        yield server
    finally:
        server.process.stop()
