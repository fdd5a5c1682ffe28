"""A server that nobody calls costs nothing, whatever it has loaded."""

import os
import time
from pathlib import Path

import pytest

from support.servers import server_process
from vaeserve import Client

_SHARE = 0.01
_WINDOW_S = 3
_WINDOWS = 3

pytestmark = pytest.mark.alone


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# Several ONNX Runtime threads, or several workers: both have something that could spin or poll.
@pytest.mark.parametrize("options", [("--threads", "2"), ("--threads", "1", "--workers", "2")])
def test_an_idle_server_uses_less_than_a_hundredth_of_a_core(
    repository: Path, options: tuple[str, ...]
) -> None:
    with server_process(repository, *options) as server:
        ready = server.wait_for("ready")
        with Client(ready["address"]) as client:
            for name in ready["models"]:
                client.model(name).sample(64)
            pids = [server.process.pid, *children(server.process.pid)]
            shares = []
            # Work left over from the start may fall into the first window.
            for _ in range(_WINDOWS):
                before = [cpu_seconds(pid) for pid in pids]
                time.sleep(_WINDOW_S)  # what is measured
                used = [cpu_seconds(pid) - cpu for pid, cpu in zip(pids, before, strict=True)]
                shares.append(max(used) / _WINDOW_S)
                if shares[-1] < _SHARE:
                    return
    pytest.fail(f"busy for {shares} of the time without a call")
