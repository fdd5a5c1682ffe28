"""A supervisor with its workers, and callers who have a connection each."""

import itertools
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc

from support.servers import ServerProcess, scrape, server_process
from vaeserve.v1 import vae_service_pb2 as pb
from vaeserve.v1.vae_service_pb2_grpc import VaeServiceStub

CONNECTIONS = 16
REQUEST = pb.SampleRequest(model="digits", n=2, seed=7)
GRAPH = '{graph="decoder",model="digits"}'
ROWS = f"vaeserve_rows_total{GRAPH}"
NUMBERS = itertools.count()  # channels with the same options share a connection
RETRYABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


class Workers:
    """A supervisor with two workers that are ready."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        ready = server.wait_for("ready")
        self.address: str = ready["address"]
        self.metrics_address: str = ready["metrics_address"]
        self.pids = {
            record["pid"] for record in server.records if record["message"] == "worker ready"
        }
        assert len(self.pids) == 2

    def scrape(self) -> dict[str, float]:
        return scrape(self.metrics_address)

    def connections_of(self, pid: int) -> int:
        """Connections that a worker has accepted, as the kernel tells."""
        port = f"{int(self.address.rpartition(':')[2]):04X}"
        established = set()
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[1].endswith(f":{port}") and fields[3] == "01":
                    established.add(f"socket:[{fields[9]}]")
        files = (str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir())
        return sum(file in established for file in files)

    def kill(self, pid: int) -> int:
        """Kill a worker and wait for its successor's process id."""
        os.kill(pid, signal.SIGKILL)
        assert self.server.wait_for("worker ended")["pid"] == pid
        successor: int = self.server.wait_for("worker ready")["pid"]
        self.pids = self.pids - {pid} | {successor}
        return successor


@contextmanager
def two_workers(repository: Path, *options: str) -> Iterator[Workers]:
    arguments = ("--workers", "2", "--threads", "1", "--drain-delay", "0", *options)
    with server_process(repository, *arguments) as server:
        yield Workers(server)


@contextmanager
def stubs(address: str) -> Iterator[list[VaeServiceStub]]:
    """Callers with a connection each, and without retries."""
    with ExitStack() as stack:
        channels = (
            grpc.insecure_channel(address, [("grpc.n", next(NUMBERS)), ("grpc.enable_retries", 0)])
            for _ in range(CONNECTIONS)
        )
        yield [VaeServiceStub(stack.enter_context(channel)) for channel in channels]


def wait_ended(pids: set[int]) -> None:
    """A process that has closed its files may need a moment more."""
    for _ in range(2000):
        if all(ended(pid) for pid in pids):
            return
        time.sleep(0.005)
    raise AssertionError("workers are left")


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
