"""Drives a server with h2load, a C client, so that the client is cheap; reads what it prints.

h2load speaks HTTP/2, not gRPC: it sends one framed message again and again, and does not read
grpc-status. So each run is checked by the count of answers and by their bytes: an error has none.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.http2 import PREFIX_BYTES, framed

MISSING = "h2load is missing: install Debian's nghttp2-client (apt-get install nghttp2-client)"

_CONNECTIONS = {1: (1, 1), 8: (8, 1), 64: (8, 8)}
_TIMEOUT_S = 300


@dataclass(frozen=True)
class Shot:
    """What one run of h2load measured.

    Attributes:
        requests: sent and answered.
        seconds: from the first request to the last answer.
        p50_ms: median latency.
        p99_ms: 99th percentile.
    """

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float


class LoadError(RuntimeError):
    """Some request of a run was not answered, or not with the reply it should have."""


def available() -> bool:
    """Whether h2load is installed."""
    return shutil.which("h2load") is not None


class Load:
    """One message for one method of one server.

    Args:
        url: http://HOST:PORT/package.Service/Method.
        message: the serialised request.
        reply_bytes: length of the serialised reply.
        folder: for the body and the log.
    """

    def __init__(self, url: str, message: bytes, reply_bytes: int, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._url = url
        self._reply_bytes = reply_bytes
        self._body = folder / "body.bin"
        self._log = folder / "h2load.log"
        self._message = framed(message)

    def closed_loop(self, streams: int, requests: int) -> Shot:
        """Send so many requests, each stream its next one after its answer.

        Args:
            streams: 1, 8 or 64 at a time.
            requests: in all.

        Raises:
            LoadError: an answer is missing or has another size.
        """
        clients, per_client = _CONNECTIONS[streams]
        return self._run(requests, "-c", str(clients), "-m", str(per_client))

    def _run(self, requests: int, *options: str) -> Shot:
        self._log.unlink(missing_ok=True)
        self._body.write_bytes(self._message)  # each time: loads may share a folder
        command = ["h2load", "-n", str(requests), "-t", "1", *options, "-d", str(self._body)]
        command += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
        command += ["--log-file", str(self._log), self._url]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
        )
        self._check(done.stdout, requests)
        columns = np.loadtxt(self._log, dtype=np.int64, ndmin=2)
        starts, latencies = columns[:, 0], columns[:, 2]
        p50, p99 = np.percentile(latencies, [50, 99]) / 1e3
        seconds = ((starts + latencies).max() - starts.min()) / 1e6
        return Shot(requests, float(seconds), float(p50), float(p99))

    def _check(self, output: str, requests: int) -> None:
        succeeded = _number(r"(\d+) succeeded", output)
        ok = _number(r"status codes: (\d+) 2xx", output)
        data = _number(r"\((\d+)\) data", output)
        wanted = requests * (PREFIX_BYTES + self._reply_bytes)
        if (succeeded, ok, data) != (requests, requests, wanted):
            raise LoadError(
                f"{self._url}: of {requests} requests {succeeded} succeeded, {ok} with status 2xx; "
                f"{data} bytes of replies instead of {wanted}"
            )


def _number(pattern: str, output: str) -> int:
    found = re.search(pattern, output)
    if found is None:
        raise LoadError(f"h2load printed no {pattern!r}:\n{output}")
    return int(found[1])
