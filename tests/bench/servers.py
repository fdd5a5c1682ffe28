"""The servers that are compared, each as a process of its own on a loopback port."""

import os
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import grpc
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from bench.cases import Case, RawGraphs
from bench.models import Model
from bench.processes import Process, free_port
from bench.wires import VaeserveWire, Wire, numpy_prior, philox_prior

_TOLERANCE = 1e-5


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
        return f"127.0.0.1:{self.port}"

    def url(self, case: Case) -> str:
        return f"http://{self.address}{self.wire.path(case)}"

    def handled(self, case: Case) -> int | None:
        """Calls that the server itself counted as OK so far; None where it does not count."""
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
        found = self.wire.read(case, reply)
        rows = self.wire.latents(case) if case.rpc == "sample" else case.input()
        for name, wanted in zip(case.outputs, raw.run(case.graph, rows), strict=True):
            np.testing.assert_allclose(
                found[name], wanted, rtol=0, atol=_TOLERANCE, err_msg=f"{self.name} {case} {name}"
            )
        return request, len(reply)


class Vaeserve(Server):
    """The product, as users start it, with everything on."""

    def __init__(
        self, repository: Path, threads: int, python: str, logs: Path, *options: str
    ) -> None:
        port, self.metrics_port = free_port(), free_port()
        command = [python, "-m", "vaeserve", "serve", str(repository), "--device", "cpu"]
        command += ["--threads", str(threads), "--drain-delay", "0", *options]
        command += ["--address", f"127.0.0.1:{port}"]
        command += ["--metrics-address", f"127.0.0.1:{self.metrics_port}"]
        process = Process(command, logs / "vaeserve.log")
        super().__init__("vaeserve", port, VaeserveWire(philox_prior), process)

    def handled(self, case: Case) -> int | None:
        method = self.wire.path(case).rpartition("/")[2]
        labels = {"grpc_method": method, "grpc_code": "OK"}
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics") as reply:
            text = reply.read().decode()
        return sum(
            int(sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "grpc_server_handled_total"
            and labels.items() <= sample.labels.items()
        )


def baseline(
    module: str, wire: Wire, bundle: Path, model: Model, threads: int, logs: Path
) -> Server:
    """Start one of this folder's own servers.

    Args:
        module: `aio_server` or `pool_server`.
        wire: what it speaks.
        bundle: the version's folder.
        model: what is in it.
        threads: of ONNX Runtime.
        logs: folder.
    """
    port = free_port()
    command = [sys.executable, "-m", f"bench.{module}", "--port", str(port)]
    command += ["--folder", str(bundle), "--latent", str(model.latent), "--threads", str(threads)]
    process = Process(command, logs / f"{module}.log", _import_path())
    return Server(module.removesuffix("_server"), port, wire, process)


def aio(bundle: Path, model: Model, threads: int, logs: Path) -> Server:
    """Baseline (b)."""
    return baseline("aio_server", VaeserveWire(numpy_prior), bundle, model, threads, logs)


def call(address: str, path: str, request: bytes) -> bytes:
    """One unary call of a real gRPC client."""
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(address, options) as channel:
        method = channel.unary_unary(path, _bytes, _bytes)
        return bytes(method(request, timeout=30, wait_for_ready=True))


def _import_path() -> Mapping[str, str]:
    """This process's import path, for a child."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _bytes(message: bytes) -> bytes:
    return message
