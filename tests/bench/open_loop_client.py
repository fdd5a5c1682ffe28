"""An open loop: requests start at the moments of a Poisson process, whatever the server does.

h2load's --rps sends a burst every 10 ms, which measures bursts; the project's `loadtest` is honest
but cannot start 20,000 requests a second. Latency counts from the intended moment, so that waiting
in this program counts too. Prints JSON: replies and their bytes (an error has none), the rate kept,
percentiles.
"""

import argparse
import gc
import json
import select
import time
from collections import deque
from pathlib import Path

import numpy as np

from bench.http2 import (
    DATA,
    END_STREAM,
    FRAME_BYTES,
    PREFIX_BYTES,
    RESET,
    Connection,
    frame,
    framed,
)

_LEAD_S = 0.05
_OVERTIME_S = 20


class Caller:
    """Unary calls on one connection.

    Args:
        port: of the server.
        path: "/package.Service/Method".
        message: the serialised request.
    """

    def __init__(self, port: int, path: str, message: bytes) -> None:
        self.connection = Connection(port, path)
        body = framed(message)
        assert len(body) <= self.connection.initial_credit, "a stream's window takes no more"
        self._size = len(body)
        *self._first, self._last = (
            body[at : at + FRAME_BYTES] for at in range(0, len(body), FRAME_BYTES)
        )
        self._due: deque[int] = deque()
        self._numbers: dict[int, int] = {}
        self.reply_bytes = 0

    def start(self, number: int) -> None:
        """Let a request go out with the next flush."""
        self._due.append(number)

    def flush(self) -> None:
        """Send what is due, as far as the server's flow control lets it."""
        connection, size = self.connection, self._size
        output = []
        while self._due and connection.credit >= size:
            stream, opening = connection.call()
            self._numbers[stream] = self._due.popleft()
            output.append(opening)
            output += [frame(DATA, 0, stream, part) for part in self._first]
            output.append(frame(DATA, END_STREAM, stream, self._last))
            connection.credit -= size
        if output:
            connection.socket.sendall(b"".join(output))

    def ended(self) -> list[int]:
        """Numbers of the requests whose end has come."""
        numbers = []
        for kind, flags, stream, payload in self.connection.receive():
            if kind == DATA:
                self.reply_bytes += len(payload)
            # Some calls that fail are both ended and reset.
            if (flags & END_STREAM or kind == RESET) and stream in self._numbers:
                numbers.append(self._numbers.pop(stream))
        return numbers


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("message", type=Path, help="File with the serialised request.")
    parser.add_argument("--connections", type=int)
    parser.add_argument("--rate", type=float, help="Requests a second, on average.")
    parser.add_argument("--count", type=int, help="Requests in all.")
    options = parser.parse_args()
    message = options.message.read_bytes()
    callers = [Caller(options.port, options.path, message) for _ in range(options.connections)]
    draws = np.random.default_rng(0).exponential(1 / options.rate, options.count)
    moments = np.cumsum(draws).tolist()
    gc.disable()
    latencies, took = _run(callers, moments)
    microseconds = np.array(latencies) * 1e6
    report = {
        "replies": len(latencies),
        "bytes": sum(caller.reply_bytes for caller in callers) - PREFIX_BYTES * len(latencies),
        "kept": (moments[-1] - moments[0]) / took,
        "p50_ms": float(np.percentile(microseconds, 50)) / 1e3,
        "p99_ms": float(np.percentile(microseconds, 99)) / 1e3,
    }
    print(json.dumps(report))  # noqa: T201


def _run(callers: list[Caller], moments: list[float]) -> tuple[list[float], float]:
    """Latencies of all requests in the order of their ends, and the seconds they took in all."""
    by_socket = {caller.connection.socket: caller for caller in callers}
    sockets, latencies = list(by_socket), list[float]()
    begin, sent, count = time.perf_counter() + _LEAD_S, 0, len(moments)
    now = -_LEAD_S
    while len(latencies) < count and now < moments[-1] + _OVERTIME_S:
        while sent < count and moments[sent] <= now:
            callers[sent % len(callers)].start(sent)
            sent += 1
        for caller in callers:
            caller.flush()
        pause = moments[sent] - now if sent < count else 0.1
        # Not epoll, whose timeouts are whole milliseconds.
        readable, _, _ = select.select(sockets, [], [], max(0.0, pause))
        now = time.perf_counter() - begin
        for ready in readable:
            latencies += [now - moments[number] for number in by_socket[ready].ended()]
        now = time.perf_counter() - begin
    return latencies, now - moments[0]


if __name__ == "__main__":
    main()
