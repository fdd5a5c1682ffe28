"""Real servers on free loopback ports: in this process, or as the process that users start."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from vaeserve_server.app import App
from vaeserve_server.call import Floats, Outputs
from vaeserve_server.config import ServerConfig
from vaeserve_server.onnx_engine import OnnxEngine

ANY_PORT = "127.0.0.1:0"


def make_app(repository: Path, **settings: Any) -> App:
    """A server in this process, not started."""
    return App(
        ServerConfig(
            repository=repository,
            address=ANY_PORT,
            metrics_address=ANY_PORT,
            device="cpu",
            threads=1,
            **settings,
        )
    )


@contextmanager
def running_app(repository: Path, **settings: Any) -> Iterator[App]:
    """A started server in this process."""
    app = make_app(repository, **settings)
    app.start()
    try:
        yield app
    finally:
        app.stop(grace_s=5)


def series(app: App) -> dict[str, float]:
    """Every sample of /metrics, as `name{label="value",...}` -> value, labels sorted."""
    return scrape(f"127.0.0.1:{app.metrics_port}")


def scrape(address: str) -> dict[str, float]:
    """As `series`, of any endpoint."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as reply:
        text = reply.read().decode()
    samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{key}="{value}"' for key, value in sorted(sample.labels.items()))
            samples[f"{sample.name}{{{labels}}}"] = sample.value
    return samples


def wait_for(app: App, name: str, value: float) -> None:
    """Poll /metrics until a series has a value."""
    for _ in range(2000):
        if series(app)[name] == value:
            return
        time.sleep(0.005)
    raise AssertionError(f"{name} is {series(app)[name]}, not {value}")


class HeldEngines:
    """Keeps every run of this process's engines waiting, and can make them fail.

    For servers with `placement="thread"`: a held run must not hold the transport with it.
    """

    def __init__(self, *, lane_too: bool) -> None:
        self.failure: Exception | None = None
        self._lane_too = lane_too
        self._running = threading.Semaphore(0)
        self._passes = threading.Semaphore(0)
        self._released = False

    def wait_for_a_run(self) -> None:
        assert self._running.acquire(timeout=30), "no run began"

    def let_one_pass(self) -> None:
        self._passes.release()

    def release(self) -> None:
        self._released = True
        self._passes.release()

    def hold(self) -> None:
        on_lane = threading.current_thread().name == "lane"
        assert self._lane_too or self._released or not on_lane, (
            'this would hold the transport too: start the server with placement="thread"'
        )
        self._running.release()
        assert self._passes.acquire(timeout=60), "the test never released the engines"
        if self._released:
            self._passes.release()  # for the next one
        if self.failure is not None:
            raise self.failure


@contextmanager
def held_engines(*, lane_too: bool = False) -> Iterator[HeldEngines]:
    """Hold the engines of servers in this process; they are released at the end.

    Args:
        lane_too: whether a run on the lane's own thread may be held, and the transport with it.
    """
    held = HeldEngines(lane_too=lane_too)

    def run(engine: OnnxEngine, rows: Floats, *, as_levels: bool = False) -> Outputs:
        held.hold()
        return real_run(engine, rows, as_levels=as_levels)

    real_run = OnnxEngine.run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OnnxEngine, "run", run)
        try:
            yield held
        finally:
            held.release()


class ServerProcess:
    """`vaeserve serve` as a process of its own, with its log lines."""

    def __init__(self, repository: Path, *options: str, before: str = "") -> None:
        start = ["-c", f"{before}\nfrom vaeserve._cli import main\nmain()"]
        command = [sys.executable, *(start if before else ["-m", "vaeserve"])]
        command += ["serve", str(repository), "--device", "cpu"]
        command += ["--address", ANY_PORT, "--metrics-address", ANY_PORT, *options]
        # gRPC's own log of connections that end is none of the server's words.
        quiet = os.environ | {"GRPC_VERBOSITY": "NONE"}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=quiet
        )
        self.records: list[dict[str, Any]] = []

    def wait_for(self, message: str) -> dict[str, Any]:
        """Read the log up to a record whose message starts so."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.records.append(json.loads(line))
            if self.records[-1]["message"].startswith(message):
                return self.records[-1]
        raise AssertionError(f"the log ended without {message!r}: {self.records}")

    def terminate(self) -> None:
        os.kill(self.process.pid, signal.SIGTERM)

    def finish(self) -> tuple[int, str]:
        """Wait for the end.

        Returns:
            exit code and standard error.
        """
        out, err = self.process.communicate(timeout=60)
        self.records += [json.loads(line) for line in out.splitlines()]
        return self.process.returncode, err


@contextmanager
def server_process(repository: Path, *options: str, before: str = "") -> Iterator[ServerProcess]:
    """A server process that does not outlive the test; `before` is Python to run first in it."""
    server = ServerProcess(repository, *options, before=before)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.communicate()
        for pipe in (server.process.stdout, server.process.stderr):
            assert pipe is not None
            pipe.close()
