"""`vaeserve serve` under the load of several processes."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import grpc
import numpy as np

from bench.models import Model
from bench.own import stopping
from bench.servers import Settings, Vaeserve
from gpu_check.bundles import model_name, repository_of
from gpu_check.machine import Gauge
from gpu_check.nets import Net
from gpu_check.parts import Setting
from gpu_check.raw import rows_of
from vaeserve.v1 import tensor_pb2, vae_service_pb2
from vaeserve.v1.arrays import to_tensor
from vaeserve_export.training.settings import TrainSettings

_MOST_PROCESSES = 8
_WARM_S = 1.0
_QUEUE_ROWS = 1 << 16
_CLIENT_PATH = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@dataclass(frozen=True)
class Shot:
    """One load.

    Attributes:
        rows_s: rows answered a second.
        p50_ms: median latency of a request.
        p99_ms: 99th percentile.
        busy_percent: of the device; None where it cannot be told.
    """

    rows_s: float
    p50_ms: float
    p99_ms: float
    busy_percent: float | None


@cache
def known_options() -> frozenset[str]:
    """Options that the installed server has."""
    done = subprocess.run(
        [sys.executable, "-m", "vaeserve", "serve", "--help"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    words = done.stdout.replace(",", " ").replace("/", " ").split()
    return frozenset(word for word in words if word.startswith("--"))


@contextmanager
def serving(
    net: Net, precision: str, setting: Setting, *, most_rows: int, workers: int = 1
) -> Iterator[Vaeserve]:
    """A server with one bundle, ready.

    Args:
        net: which.
        precision: of the bundle.
        setting: says which device.
        most_rows: of a batch.
        workers: processes that feed the device.

    Raises:
        RuntimeError: it does not start; with the end of its log.
    """
    options = ["--device", setting.device, "--workers", str(workers)]
    options += ["--max-rows", str(most_rows), "--max-queue-rows", str(_QUEUE_ROWS)]
    if "--execution" in known_options():
        options += ["--execution", "bound"]  # on a CPU too: the same code
    # What the benchmark's servers are told; the training settings are not looked at.
    latent = math.prod(net.latent_shape)
    model = Model(model_name(net, precision), net.input_shape, latent, TrainSettings())
    repository = repository_of(setting, net, precision)
    settings = Settings(model, repository, 1, sys.executable, setting.home)
    with stopping(Vaeserve(settings, *options)) as server:
        try:
            server.wait_until_ready()
        except grpc.RpcError as error:
            log = server.process.log.read_text(errors="replace").strip()
            raise RuntimeError(f"the server does not start: {log[-1000:]}") from error
        yield server


def request_of(net: Net, precision: str, rpc: str, payload: str, rows: int) -> bytes:
    """A serialised request.

    Args:
        net: which.
        precision: of the bundle.
        rpc: `encode` or `decode`.
        payload: `uint8` or `float32`, of the pictures: encode's input, decode's reply.
        rows: in it.
    """
    name = model_name(net, precision)
    if rpc == "encode":
        pictures = rows_of(net, "encoder", rows)
        if payload == "uint8":
            levels = np.random.default_rng(0).integers(0, 256, pictures.shape, np.uint8)
            tensor = to_tensor(levels)
        else:
            tensor = to_tensor(pictures)
        return vae_service_pb2.EncodeRequest(model=name, input=tensor).SerializeToString()
    dtype = tensor_pb2.DATA_TYPE_UINT8 if payload == "uint8" else tensor_pb2.DATA_TYPE_FLOAT32
    latents = to_tensor(rows_of(net, "decoder", rows))
    asked = vae_service_pb2.DecodeRequest(model=name, latents=latents, x_hat_dtype=dtype)
    return asked.SerializeToString()


def drive(
    server: Vaeserve,
    rpc: str,
    requests: Sequence[bytes],
    rows: Sequence[int],
    setting: Setting,
    *,
    callers: int,
    seconds: float,
) -> Shot:
    """Load a server with a closed loop.

    Args:
        server: which.
        rpc: `encode` or `decode`.
        requests: drawn at random.
        rows: in each of them.
        setting: says which device.
        callers: requests at a time.
        seconds: how long.

    Raises:
        RuntimeError: a call failed.
    """
    folder = setting.home / "requests"
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number}.bin" for number in range(len(requests))]
    for file, content in zip(files, requests, strict=True):
        file.write_bytes(content)
    processes = min(callers, _MOST_PROCESSES, max(1, (os.cpu_count() or 2) // 2))
    shares = [callers // processes + (number < callers % processes) for number in range(processes)]
    command = [sys.executable, "-m", "gpu_check.caller", server.address]
    command += [f"/vaeserve.v1.VaeService/{rpc.capitalize()}", *map(str, files)]
    command += ["--warm", str(min(_WARM_S, seconds)), "--seconds", str(seconds)]
    with Gauge(setting) as gauge:
        running = [
            subprocess.Popen(
                [*command, "--threads", str(threads), "--seed", str(number)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=os.environ | _CLIENT_PATH,
            )
            for number, threads in enumerate(shares)
        ]
        outputs = [process.communicate() for process in running]
    for process, (_, errors) in zip(running, outputs, strict=True):
        if process.returncode:
            raise RuntimeError(f"{rpc}: a caller failed: {errors.strip()[-500:]}")
    reports = [json.loads(output) for output, _ in outputs]
    done = sum(
        count * size
        for report in reports
        for count, size in zip(report["calls"], rows, strict=True)
    )
    latencies = [ms for report in reports for ms in report["ms"]]
    if not latencies:
        raise RuntimeError(f"{rpc}: no call was answered in {seconds:g} s")
    p50, p99 = np.percentile(latencies, [50, 99])
    return Shot(done / seconds, float(p50), float(p99), gauge.busy_percent)
