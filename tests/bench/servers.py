"""The servers that are compared, each as a process of its own on a loopback port."""

import os
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from bench.cases import Case, RawGraphs
from bench.models import Model
from bench.processes import Process, free_port
from bench.wires import BareWire, FloatsWire, VaeserveWire, Wire, numpy_prior, philox_prior

_TOLERANCE = 1e-5
_START_S = 60
_POLL_S = 0.002
_ANY_SIZE = [("grpc.max_receive_message_length", -1)]


class Server:
    """A running server.

    Attributes:
        name: in tables.
        port: of gRPC, on 127.0.0.1.
        wire: what it speaks.
        process: what it runs in.
    """

    def __init__(self, name: str, port: int, wire: Wire, process: Process) -> None:
        self.name = name
        self.port = port
        self.wire = wire
        self.process = process

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    def url(self, case: Case) -> str:
        """Of the method that a case asks."""
        return f"http://{self.address}{self.wire.path(case)}"

    def wait_until_ready(self) -> float:
        """Wait until it takes calls.

        Returns:
            seconds since the process was started.
        """
        self.process.wait_for_port(self.port, _START_S)
        return time.perf_counter() - self.process.began

    def handled(self, case: Case) -> int | None:
        """Calls that the server itself has counted as OK; None where it does not count."""
        del case
        return None

    def check(self, case: Case, raw: RawGraphs) -> tuple[bytes, int] | None:
        """Call it once with a real gRPC client and compare with raw ONNX Runtime.

        Returns:
            the request and the length of the right reply; None where it has no such call.

        Raises:
            AssertionError: another shape or other values than ONNX Runtime gives.
            grpc.RpcError: any status but OK.
        """
        request = self.wire.request(case)
        if request is None:
            return None
        reply = call(self.address, self.wire.path(case), request)
        self.compare(case, reply, raw)
        return request, len(reply)

    def compare(self, case: Case, reply: bytes, raw: RawGraphs) -> None:
        """Compare a reply with what raw ONNX Runtime gives.

        Raises:
            AssertionError: they differ.
        """
        found = self.wire.read(case, reply)
        rows = self.wire.latents(case) if case.rpc == "sample" else case.input()
        for name, wanted in zip(case.outputs, raw.run(case.graph, rows), strict=True):
            np.testing.assert_allclose(
                found[name], wanted, rtol=0, atol=_TOLERANCE, err_msg=f"{self.name} {case} {name}"
            )


@dataclass(frozen=True)
class Settings:
    """What every server is started with.

    Attributes:
        model: that it serves.
        repository: where the model is.
        threads: of ONNX Runtime.
        python: interpreter of the product; the baselines take this process's.
        home: folder for logs and what peers need.
    """

    model: Model
    repository: Path
    threads: int
    python: str
    home: Path

    @property
    def bundle(self) -> Path:
        """The version's folder."""
        return self.repository / self.model.name / "1"


class Vaeserve(Server):
    """The product, as users start it, with everything on."""

    def __init__(self, settings: Settings, *options: str) -> None:
        port, self._metrics_port = free_port(), free_port()
        command = [settings.python, "-m", "vaeserve", "serve", str(settings.repository)]
        command += ["--device", "cpu", "--threads", str(settings.threads), "--drain-delay", "0"]
        command += ["--address", f"127.0.0.1:{port}"]
        command += ["--metrics-address", f"127.0.0.1:{self._metrics_port}", *options]
        process = Process(command, settings.home / "logs" / "vaeserve.log")
        super().__init__("vaeserve", port, VaeserveWire(philox_prior), process)

    def wait_until_ready(self) -> float:
        super().wait_until_ready()
        with grpc.insecure_channel(self.address) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            asked = health_pb2.HealthCheckRequest(service="vaeserve.v1.VaeService")
            end = time.monotonic() + _START_S
            while stub.Check(asked, timeout=_START_S).status != 1:
                assert time.monotonic() < end, f"not ready after {_START_S} s"
                time.sleep(_POLL_S)
        return time.perf_counter() - self.process.began

    def handled(self, case: Case) -> int | None:
        method = self.wire.path(case).rpartition("/")[2]
        labels = {"grpc_method": method, "grpc_code": "OK"}
        url = f"http://127.0.0.1:{self._metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as reply:
            text = reply.read().decode()
        return sum(
            int(sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "grpc_server_handled_total"
            and labels.items() <= sample.labels.items()
        )


def aio(settings: Settings) -> Server:
    """Baseline (b), on uvloop where `make bench-peers` installed it."""
    uvloop = settings.home / "peers" / "uvloop"
    return _own("aio_server", VaeserveWire(numpy_prior), settings, uvloop)


def pool(settings: Settings) -> Server:
    """Baseline (c)."""
    return _own("pool_server", FloatsWire(), settings)


def bare(settings: Settings) -> Server:
    """The floor: the service's queue and one run a turn, without anything else."""
    return _own("bare_server", BareWire(), settings)


def echo(reply_bytes: int, logs: Path) -> Server:
    """A server that answers any bytes with so many, without a model."""
    port = free_port()
    command = [sys.executable, "-m", "bench.echo_server"]
    command += ["--port", str(port), "--reply-bytes", str(reply_bytes)]
    server = Server("echo", port, EchoWire(philox_prior), Process(command, logs / "echo.log"))
    server.wait_until_ready()
    return server


class EchoWire(VaeserveWire):
    """The product's requests, sent to the echo's method."""

    def path(self, case: Case) -> str:
        del case
        return "/bench.Echo/Unary"


def call(address: str, path: str, request: bytes) -> bytes:
    """One unary call of a real gRPC client."""
    with grpc.insecure_channel(address, _ANY_SIZE) as channel:
        method: Any = channel.unary_unary(path)
        reply: bytes = method(request, timeout=30, wait_for_ready=True)
        return reply


def call_stream(address: str, path: str, requests: Sequence[bytes]) -> list[bytes]:
    """One call of a bidirectional method; the replies in order."""
    with grpc.insecure_channel(address, _ANY_SIZE) as channel:
        method: Any = channel.stream_stream(path)
        return list(method(iter(requests), timeout=30, wait_for_ready=True))


def _own(module: str, wire: Wire, settings: Settings, *packages: Path) -> Server:
    """Start one of this folder's servers, with further packages to be found by it alone."""
    port = free_port()
    command = [sys.executable, "-m", f"bench.{module}", "--port", str(port)]
    command += ["--folder", str(settings.bundle), "--latent", str(settings.model.latent)]
    command += ["--threads", str(settings.threads)]
    path = os.pathsep.join([*filter(None, sys.path), *map(str, packages)])
    process = Process(command, settings.home / "logs" / f"{module}.log", {"PYTHONPATH": path})
    return Server(module.removesuffix("_server"), port, wire, process)
