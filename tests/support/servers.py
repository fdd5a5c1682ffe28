"""Real servers on free loopback ports: in this process, or as the process that users start."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from vaeserve_server.app import App
from vaeserve_server.config import ServerConfig

ANY_PORT = "127.0.0.1:0"


@contextmanager
def running_app(repository: Path, **settings: Any) -> Iterator[App]:
    """A started server in this process."""
    app = App(
        ServerConfig(
            repository=repository,
            address=ANY_PORT,
            metrics_address=ANY_PORT,
            device="cpu",
            threads=1,
            **settings,
        )
    )
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


class ServerProcess:
    """`vaeserve serve` as a process of its own, with its log lines."""

    def __init__(self, repository: Path, *options: str) -> None:
        command = [sys.executable, "-m", "vaeserve", "serve", str(repository), "--device", "cpu"]
        command += ["--address", ANY_PORT, "--metrics-address", ANY_PORT, *options]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
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
def server_process(repository: Path, *options: str) -> Iterator[ServerProcess]:
    """A server process that does not outlive the test."""
    server = ServerProcess(repository, *options)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.communicate()
        for pipe in (server.process.stdout, server.process.stderr):
            assert pipe is not None
            pipe.close()
