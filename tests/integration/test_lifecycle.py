"""A server process as operators see it: start, readiness, metrics, logs, drain, end."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from support.health import health_of
from support.servers import make_app, running_app, scrape, series, server_process
from vaeserve import Client, Unavailable
from vaeserve_server.app import App
from vaeserve_server.config import ServerConfig
from vaeserve_server.errors import StartupError

VAE = "vaeserve.v1.VaeService"
OIP = "inference.GRPCInferenceService"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
METHODS = ("Encode", "Sample", "Decode", "Reconstruct", "Interpolate")


def test_everything_is_ready_after_start(address: str) -> None:
    for service in ("", VAE, OIP, "vaeserve.v1.ModelService", "models/digits", "models/rgb"):
        assert health_of(address, service) == SERVING


def test_an_unknown_service_is_not_found(address: str) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        health_of(address, "nobody")
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


def test_reflection_names_every_service(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        services = set(database.get_services())
        file = database.FindFileContainingSymbol(VAE)
        oip = database.FindFileContainingSymbol(OIP)
    assert {VAE, OIP, "vaeserve.v1.ModelService", "grpc.health.v1.Health"} <= services
    assert "ModelStreamInfer" in {method.name for method in oip.service[0].method}
    assert file.name == "vaeserve/v1/vae_service.proto"


def test_every_series_is_there_at_zero(repository: Path) -> None:
    with running_app(repository) as app:
        samples = series(app)
    rpc = 'grpc_method="{}",grpc_service="{}",grpc_type="unary"'
    for method in METHODS:
        labels = rpc.format(method, VAE)
        assert samples[f"grpc_server_started_total{{{labels}}}"] == 0
        assert samples[f"grpc_server_msg_received_total{{{labels}}}"] == 0
        assert samples[f"grpc_server_msg_sent_total{{{labels}}}"] == 0
        assert samples[f"grpc_server_handling_seconds_count{{{labels}}}"] == 0
        for code in grpc.StatusCode:
            assert samples[f'grpc_server_handled_total{{grpc_code="{code.name}",{labels}}}'] == 0
    for graph in ("encoder", "decoder"):
        labels = f'graph="{graph}",model="digits"'
        for name in (
            *("vaeserve_queue_seconds_count", "vaeserve_run_seconds_count"),
            *("vaeserve_batch_rows_count", "vaeserve_batch_padding_rows_count"),
            *("vaeserve_rows_total", "vaeserve_queue_rows", "vaeserve_in_flight"),
        ):
            assert samples[f"{name}{{{labels}}}"] == 0
        for reason in ("full", "idle", "timeout"):
            assert samples[f'vaeserve_batch_close_total{{{labels},reason="{reason}"}}'] == 0
        for reason in ("QUEUE_FULL", "QUEUE_WAIT", "EXPIRED", "CANCELLED"):
            assert samples[f'vaeserve_rejected_total{{{labels},reason="{reason}"}}'] == 0
    assert samples['vaeserve_kl_nats_count{model="digits"}'] == 0
    assert samples['vaeserve_reconstruction_nats_count{model="digits"}'] == 0
    assert samples['vaeserve_provider_info{model="digits",provider="CPUExecutionProvider"}'] == 1
    assert sum(name.startswith("vaeserve_model_info{") for name in samples) == 3


def test_calls_are_counted(repository: Path) -> None:
    with running_app(repository) as app, Client(f"127.0.0.1:{app.port}") as client:
        model = client.model("digits")
        x = np.random.default_rng(0).random((5, 1, 8, 8), np.float32)
        posterior = model.encode(x)
        model.reconstruct(x)
        with pytest.raises(Exception, match="not served"):
            client.model("nobody").sample(1)
        samples = series(app)
    encode = f'grpc_method="Encode",grpc_service="{VAE}",grpc_type="unary"'
    assert samples[f"grpc_server_started_total{{{encode}}}"] == 1
    assert samples[f'grpc_server_handled_total{{grpc_code="OK",{encode}}}'] == 1
    assert samples[f"grpc_server_handling_seconds_count{{{encode}}}"] == 1
    catalogue = 'grpc_method="GetModel",grpc_service="vaeserve.v1.ModelService",grpc_type="unary"'
    assert samples[f'grpc_server_handled_total{{grpc_code="NOT_FOUND",{catalogue}}}'] == 1
    assert samples['vaeserve_rows_total{graph="encoder",model="digits"}'] == 10
    assert samples['vaeserve_rows_total{graph="decoder",model="digits"}'] == 5
    assert samples['vaeserve_kl_nats_count{model="digits"}'] == 10
    kl = 0.5 * (posterior.mu**2 + posterior.std**2 - 1 - posterior.log_var).sum()
    assert samples['vaeserve_kl_nats_sum{model="digits"}'] == pytest.approx(2 * kl, rel=1e-4)
    assert samples['vaeserve_reconstruction_nats_count{model="digits"}'] == 5


def test_a_watcher_sees_the_drain(own_repository: Path) -> None:
    app = make_app(own_repository, drain_delay_s=2)
    app.start()
    draining = threading.Thread(target=app.drain)
    with (
        grpc.insecure_channel(f"127.0.0.1:{app.port}") as channel,
        Client(f"127.0.0.1:{app.port}") as client,
    ):
        request = health_pb2.HealthCheckRequest(service=VAE)
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(request, timeout=60)
        assert next(watch).status == SERVING
        draining.start()
        assert next(watch).status == NOT_SERVING
        # Balancers need a moment to notice; until then nobody may be turned away.
        assert client.model("digits").sample(3).shape == (3, 1, 8, 8)
        watch.cancel()
        draining.join(60)
        assert not draining.is_alive()
        with pytest.raises(Unavailable):
            client.model("digits").sample(1, timeout=1)


def test_sigterm_under_load_fails_nobody_and_ends_with_0(own_repository: Path) -> None:
    """Every call that was begun before the listening ended gets its answer."""
    with server_process(own_repository, "--drain-delay", "1") as server:
        ready = server.wait_for("ready")

        def work(number: int) -> int:
            calls = 0
            with Client(ready["address"], retries=0) as client:
                model = client.model("digits")
                try:
                    while True:
                        assert model.sample(2, seed=number).shape == (2, 1, 8, 8)
                        calls += 1
                except Unavailable:
                    return calls

        with ThreadPoolExecutor(8) as pool:
            jobs = [pool.submit(work, number) for number in range(8)]
            rows = 'vaeserve_rows_total{graph="decoder",model="digits"}'
            while scrape(ready["metrics_address"])[rows] < 100:
                assert server.process.poll() is None
            server.terminate()
            calls = [job.result(60) for job in jobs]
        code, _ = server.finish()
    assert all(calls)
    assert code == 0
    assert server.records[-1]["message"] == "stopped"


def test_logs_are_json_with_time_and_level(own_repository: Path) -> None:
    with server_process(own_repository, "--drain-delay", "0") as server:
        server.wait_for("ready")
        server.terminate()
        code, _ = server.finish()
    assert code == 0
    assert all({"time", "level", "logger", "message"} <= record.keys() for record in server.records)
    loaded = next(record for record in server.records if record["message"] == "model loaded")
    assert (loaded["model"], loaded["version"]) == ("digits", 1)


def test_cuda_is_refused_at_once_where_there_is_none(own_repository: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with server_process(own_repository, "--device", "cuda") as server:
        code, err = server.finish()
    assert code == 3
    assert "built without CUDA" in err


def test_options_that_only_cuda_has_are_refused_on_the_cpu(own_repository: Path) -> None:
    with server_process(own_repository, "--device", "cpu", "--no-tf32", "--cuda-graphs") as server:
        code, err = server.finish()
    assert code == 3
    assert "--no-tf32, --cuda-graphs: of no use with --device cpu" in err


def test_shared_memory_is_refused_where_each_worker_has_regions_of_its_own(
    own_repository: Path,
) -> None:
    options = ("--workers", "2", "--system-shared-memory")
    with server_process(own_repository, *options) as server:
        code, err = server.finish()
    assert code == 3
    assert "--system-shared-memory with --workers" in err


def test_a_taken_port_is_named_and_leaves_nothing_behind(own_repository: Path, app: App) -> None:
    def config(port: int, metrics_port: int) -> ServerConfig:
        return ServerConfig(
            repository=own_repository,
            address=f"127.0.0.1:{port}",
            metrics_address=f"127.0.0.1:{metrics_port}",
        )

    with pytest.raises(StartupError, match=f"cannot listen on 127.0.0.1:{app.port}"):
        App(config(app.port, 0)).start()
    failed = App(config(0, app.metrics_port))
    with pytest.raises(StartupError, match=f"cannot listen on 127.0.0.1:{app.metrics_port}"):
        failed.start()
    later = App(config(failed.port, 0))
    later.start()
    later.stop(grace_s=5)


def test_the_server_imports_neither_torch_nor_onnx(own_repository: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from vaeserve_server.app import App;"
        "from vaeserve_server.config import ServerConfig;"
        f"app = App(ServerConfig(repository=Path({str(own_repository)!r}), address='127.0.0.1:0',"
        "metrics_address='127.0.0.1:0')); app.start(); app.stop(0);"
        "print(sorted({'torch', 'onnx'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "[]\n"


def test_doctor_finds_sound_and_damaged_bundles(own_repository: Path) -> None:
    command = [sys.executable, "-m", "vaeserve", "doctor", str(own_repository)]
    sound = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "digits/1" in sound.stdout
    assert "providers" in sound.stdout
    (own_repository / "digits" / "1" / "decoder.onnx").write_bytes(b"broken")
    damaged = subprocess.run(command, capture_output=True, text=True, check=False)
    assert damaged.returncode == 1
    assert "decoder.onnx: differs from its digest" in damaged.stderr


@pytest.mark.parametrize("command", ["serve", "verify", "doctor"])
def test_onnx_runtime_does_not_report_to_its_maker(
    own_repository: Path, tmp_path: Path, command: str
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    arguments = {
        # Port 0 of no host of ours: the server ends after ONNX Runtime has been loaded.
        "serve": ["serve", str(own_repository), "--address", "192.0.2.1:0"],
        "verify": ["verify", str(own_repository / "digits" / "1")],
        "doctor": ["doctor"],
    }[command]
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-m", "vaeserve", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert not [path for path in home.rglob("*") if "onnxruntime" in path.name]
