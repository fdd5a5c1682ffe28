"""Figures of the service alone: waiting, refusing, starting, resting, streaming."""

import json
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import grpc
import numpy as np

from bench import caches
from bench.cases import Case, RawGraphs
from bench.h2load import LoadError
from bench.measuring import Target, raw_runs
from bench.servers import Server, Vaeserve, call_stream, echo
from vaeserve.v1 import vae_service_pb2
from vaeserve.v1.arrays import to_tensor

Figures = dict[str, float]
Start = Callable[..., Vaeserve]
"""Starts a server of its own, with further options."""

_Server = TypeVar("_Server", bound=Server)

_OPEN_LOOP_SHARE = 0.8
_KEPT_SHARE = 0.95
_CONNECTIONS = 8
_FULL_ROWS = 256
_PROBES = 200
_FILLERS = 2  # one that runs, one that waits
_STREAMS, _WINDOW = 8, 4
_STREAM_CHECKS = 3
_CPU_STREAMS = (8, 64)
_FIRST_MESSAGES = 500


def open_loop(target: Target, capacity: float, repeat: int, seconds: float) -> Figures:
    """Latency at 80 % of the requests/s that the closed loop of 64 streams reached.

    Raises:
        LoadError: an answer is missing, or the rate was not kept.
    """
    rate = _OPEN_LOOP_SHARE * capacity
    runs = [_open_loop(target, rate, max(200, round(seconds * rate))) for _ in range(repeat)]
    kept = statistics.median(run["kept"] for run in runs)
    if kept < _KEPT_SHARE:
        raise LoadError(f"{kept:.0%} of the open loop's rate of {rate:.0f}/s was kept")
    name = f"{target.case.model.name}_open_loop"
    return {
        f"{name}_requests_s": rate,
        f"{name}_p50_ms": statistics.median(run["p50_ms"] for run in runs),
        f"{name}_p99_ms": statistics.median(run["p99_ms"] for run in runs),
        f"{name}_p99_of_p50": statistics.median(run["p99_ms"] / run["p50_ms"] for run in runs),
    }


def _open_loop(target: Target, rate: float, count: int) -> dict[str, float]:
    options = ("--connections", str(_CONNECTIONS), "--rate", str(rate), "--count", str(count))
    found: dict[str, float] = json.loads(_client("open_loop_client", target, *options))
    wanted = [count, count * target.reply_bytes]
    if [found["replies"], found["bytes"]] != wanted:
        raise LoadError(f"open loop: {found} instead of {wanted} replies and bytes")
    return found


def _client(module: str, target: Target, *options: str, path: str = "") -> str:
    """Run one of this folder's clients with the target's request; what it prints."""
    message = target.folder / "message.bin"
    message.write_bytes(target.request)
    path = path or target.server.wire.path(target.case)
    command = [sys.executable, "-m", f"bench.{module}", str(target.server.port), path]
    command += [str(message), *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=120, check=True)
    return done.stdout


def beside_echo(target: Target, raw: RawGraphs, home: Path, repeat: int, seconds: float) -> Figures:
    """What a request takes beside the lane's bare echo of as many bytes, and what caches add."""
    case, found = target.case, Figures()
    with stopping(echo(target.reply_bytes, home / "logs")) as server:
        bare = Target(server, case, target.request, target.reply_bytes, home / "load" / "echo")
        columns: dict[str, list[float]] = defaultdict(list)
        for _ in range(repeat):
            for name, asked in (("alone", target), ("echo", bare)):
                columns[f"{name}_p50_ms"].append(asked.closed_loop(1, seconds).p50_ms)
            columns["run_p50_ms"].append(raw_runs(raw, case, 1, seconds / 2).p50_ms)
            for streams in _CPU_STREAMS:
                for name, asked in (("own", target), ("echo", bare)):
                    cpu_us = asked.closed_loop(streams, seconds).cpu_us
                    columns[f"{name}_{streams}_cpu_us"].append(cpu_us)
        found |= caches.after_calls(raw, case, server, repeat)
    found |= {name: statistics.median(values) for name, values in columns.items()}
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
    """Time of one caller's refusal while the queue is full, and of an echo beside the same load.

    One caller keeps a batch of the most rows running, another as many rows waiting; beside them a
    third asks for a row, again and again. They send levels, so that the server is busy with runs
    and not with messages. The echo is of a server that has nothing else to do: it takes what the
    caller and a busy machine take.

    Args:
        start: the server's.
        case: one row, of a model whose full batch runs long enough to be met.
    """
    limits = ("--max-rows", str(_FULL_ROWS), "--max-queue-rows", str(_FULL_ROWS))
    with stopping(start(*limits)) as server:
        server.wait_until_ready()
        one = server.wire.request(case)
        assert one is not None
        levels = np.zeros((_FULL_ROWS, *case.model.row_shape), np.uint8)
        full = vae_service_pb2.EncodeRequest(model=case.model.name, input=to_tensor(levels))
        with stopping(echo(len(one), server.process.log.parent)) as idle_server:
            times, echoes = _refused(server, idle_server, case, full.SerializeToString(), one)
    return {
        "refusal_p50_ms": float(np.percentile(times, 50)),
        "refusal_p99_ms": float(np.percentile(times, 99)),
        "bare_refusal_p50_ms": float(np.percentile(echoes, 50)),
    }


def _refused(
    server: Server, idle_server: Server, case: Case, full: bytes, one: bytes
) -> tuple[list[float], list[float]]:
    """Milliseconds of refusals, and of the echoes between them."""
    path, stop = server.wire.path(case), threading.Event()

    def fill() -> None:
        with grpc.insecure_channel(server.address) as channel:
            method: Any = channel.unary_unary(path)
            while not stop.is_set():
                try:
                    method(full, timeout=30)
                except grpc.RpcError:
                    stop.wait(0.01)

    fillers = [threading.Thread(target=fill) for _ in range(_FILLERS)]
    for filler in fillers:
        filler.start()
    times: list[float] = []
    echoes: list[float] = []
    end = time.monotonic() + 60
    with (
        grpc.insecure_channel(server.address) as channel,
        grpc.insecure_channel(idle_server.address) as idle_channel,
    ):
        method: Any = channel.unary_unary(path)
        bare: Any = idle_channel.unary_unary(idle_server.wire.path(case))
        while len(times) < _PROBES and time.monotonic() < end:
            began = time.perf_counter()
            try:
                method(one, timeout=30)
            except grpc.RpcError as error:
                took = time.perf_counter() - began
                if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                    times.append(took * 1e3)
            time.sleep(0.005)
            began = time.perf_counter()
            bare(one, timeout=30)
            echoes.append((time.perf_counter() - began) * 1e3)
            time.sleep(0.005)
    stop.set()
    for filler in fillers:
        filler.join()
    if len(times) < _PROBES:
        raise LoadError(f"only {len(times)} of {_PROBES} refusals were met in a minute")
    return times, echoes


def streams(target: Target, raw: RawGraphs, repeat: int, seconds: float) -> Figures:
    """Server CPU of a one-row message of bidirectional streams, each with a few unanswered.

    Args:
        target: the unary case, whose messages the method's stream takes and answers in order.
        raw: to check the answers by.
        repeat: how often.
        seconds: about how long each.

    Returns:
        nothing where the server has no such method.
    """
    server = target.server
    path = f"{server.wire.path(target.case)}Stream"
    try:
        replies = call_stream(server.address, path, [target.request] * _STREAM_CHECKS)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return {}
        raise
    assert len(replies) == _STREAM_CHECKS, f"{len(replies)} replies to {_STREAM_CHECKS} requests"
    for reply in replies:
        server.compare(target.case, reply, raw)
    count, costs, rates = _FIRST_MESSAGES, list[float](), list[float]()
    for _ in range(repeat + 1):  # the first finds out how many messages take so long
        cpu, began = server.process.cpu_seconds(), time.perf_counter()
        _stream(target, path, count, len(replies[0]))
        rates.append(count * _STREAMS / (time.perf_counter() - began))
        costs.append((server.process.cpu_seconds() - cpu) / (count * _STREAMS) * 1e6)
        count = max(_FIRST_MESSAGES, round(seconds * rates[0] / _STREAMS))
    return {
        "stream_message_us": statistics.median(costs[1:]),
        "stream_messages_s": statistics.median(rates[1:]),
    }


def _stream(target: Target, path: str, count: int, reply_bytes: int) -> None:
    options = ("--streams", str(_STREAMS), "--window", str(_WINDOW), "--count", str(count))
    replies, size = map(int, _client("stream_client", target, *options, path=path).split())
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
