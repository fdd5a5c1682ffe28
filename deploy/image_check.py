"""Build the CPU image, run it, make one Encode against it, stop it: does it do what it must?

Linux only: it looks at the server through /proc.
"""

import http.client
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import grpc
import numpy as np
import onnxruntime
from grpc_health.v1 import health_pb2, health_pb2_grpc

from image_build import build
from image_engine import ROOT, find_engine, run_by_buildah, run_by_docker, say, sh
from vaeserve import Client

WORK = ROOT / ".image"
LOG = WORK / "server.log"
USER = "10001"
READY_WITHIN_S = 60
STOPPED_WITHIN_S = 40  # more than the server's drain delay and grace together


def require(fact: object, otherwise: str) -> None:
    """End the check unless `fact` holds."""
    if not fact:
        raise click.ClickException(otherwise)


def make_repository() -> Path:
    """Train and export a small model with the project's own commands; takes seconds."""
    say("training and exporting a model")
    run, repository = WORK / "run", WORK / "models"
    for old in (run, repository):
        shutil.rmtree(old, ignore_errors=True)
    vaeserve = Path(sys.executable).parent / "vaeserve"
    sh(vaeserve, "train", "--data", "digits", "--model", "mlp", "--epochs", "20", "--out", run)
    sh(vaeserve, "export", run, "--repository", repository, "--name", "digits")
    sh("chmod", "-R", "a+rX", repository)  # the container's user is neither owner nor group
    return repository


def free_ports() -> tuple[int, int]:
    """Two ports that nobody listens on."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def wait_until_ready(target: str, command: subprocess.Popen[bytes]) -> None:
    """Wait for the health service to say SERVING for the model."""
    end = time.monotonic() + READY_WITHIN_S
    status = "nothing"
    request = health_pb2.HealthCheckRequest(service="models/digits")
    with grpc.insecure_channel(target) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        while time.monotonic() < end:
            require(command.poll() is None, f"the server ended with {command.poll()} at its start")
            try:
                reply = health.Check(request, timeout=2)
            except grpc.RpcError as error:
                status = error.code().name
            else:
                status = health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)
            if status == "SERVING":
                return
            time.sleep(0.2)
    raise click.ClickException(f"not SERVING after {READY_WITHIN_S} s but {status}")


def check_encode(target: str, repository: Path) -> None:
    """Compare the server's answer with ONNX Runtime's here on the same graph."""
    x = np.random.default_rng(0).random((3, 1, 8, 8), dtype=np.float32)
    with Client(target) as client:
        posterior = client.model("digits").encode(x)
    session = onnxruntime.InferenceSession(repository / "digits" / "1" / "encoder.onnx")
    mu, log_var = session.run(["mu", "log_var"], {"x": x})
    error = max(np.abs(posterior.mu - mu).max(), np.abs(posterior.log_var - log_var).max())
    require(error <= 1e-5, f"Encode differs from ONNX Runtime here by {error:.2g}")
    say(f"Encode of 3 rows differs from ONNX Runtime here by {error:.2g}")


def check_metrics(port: int) -> None:
    """/metrics answers and has counted that call."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/metrics")
    reply = connection.getresponse()
    require(reply.status == http.HTTPStatus.OK, f"/metrics answered {reply.status}")
    text = reply.read().decode()
    connection.close()
    encode = 'grpc_server_handled_total{grpc_code="OK",grpc_method="Encode"'
    counts = [line.split()[-1] for line in text.splitlines() if line.startswith(encode)]
    require(counts == ["1.0"], f"/metrics counts {counts} calls of Encode, not one")
    say("/metrics has counted it")


@click.command()
@click.option("--base", help="Base image; with buildah a Debian is made if none is given.")
def main(base: str | None) -> None:
    """Build the CPU image and check that it serves."""
    WORK.mkdir(exist_ok=True)
    engine = find_engine()
    image = build(engine, base, "server")
    repository = make_repository()
    ports = free_ports()
    target = f"127.0.0.1:{ports[0]}"
    run = run_by_docker if engine == "docker" else run_by_buildah
    say(f"starting it on {target}, log in {LOG.relative_to(ROOT)}")
    LOG.write_text("")
    begin = time.monotonic()
    try:
        with run(image, f"{repository}:/models:ro", ports, LOG) as running:
            wait_until_ready(target, running.command)
            say(f"SERVING after {time.monotonic() - begin:.1f} s")
            users = [line.split() for line in running.proc("status").splitlines() if "id:" in line]
            owners = [ids[1:] for ids in users if ids[0] in ("Uid:", "Gid:")]
            require(owners == [[USER] * 4] * 2, f"the server runs as {owners}, not {USER}")
            mounts = [line.split() for line in running.proc("mountinfo").splitlines()]
            options = [fields[5].split(",") for fields in mounts if fields[4] == "/models"]
            require(options and "ro" in options[-1], f"/models is not read-only: {options}")
            say(f"user {USER}, /models read-only")
            check_encode(target, repository)
            check_metrics(ports[1])
            begin = time.monotonic()
            running.terminate()
            code = running.command.wait(STOPPED_WITHIN_S)
            require(code == 0, f"the server ended with {code} after SIGTERM")
            say(f"exit code 0, {time.monotonic() - begin:.1f} s after SIGTERM")
    except Exception as error:
        click.echo(LOG.read_text(), err=True)
        raise click.ClickException(str(error)) from error
    say("all is well")


if __name__ == "__main__":
    main()
