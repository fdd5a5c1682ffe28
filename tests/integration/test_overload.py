"""What callers are told when the engine is busy, slow or out of memory, or the server stops."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from support.health import health_of
from support.servers import held_engines, make_app, running_app, series, wait_for
from vaeserve import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    InternalError,
    OutOfMemory,
    Unavailable,
)
from vaeserve.v1 import model_service_pb2, model_service_pb2_grpc, vae_service_pb2 as pb
from vaeserve.v1.arrays import to_tensor
from vaeserve.v1.vae_service_pb2_grpc import VaeServiceStub
from vaeserve_server import app as app_module, loading as loading_module
from vaeserve_server.app import App
from vaeserve_server.engine import EngineMemoryError

GRAPH = 'graph="encoder",model="digits"'
X = np.random.default_rng(0).random((2, 1, 8, 8), np.float32)


@pytest.fixture
def own_app(own_repository: Path) -> Iterator[App]:
    # Engines are held here, and the transport must go on meanwhile.
    with running_app(own_repository, placement="thread") as running:
        yield running


@pytest.fixture
def own_client(own_app: App) -> Iterator[Client]:
    with Client(f"127.0.0.1:{own_app.port}", retries=0) as connected:
        _ = connected.model("digits").info
        yield connected


def rejected(app: App, reason: str) -> float:
    return series(app)[f'vaeserve_rejected_total{{{GRAPH},reason="{reason}"}}']


def test_a_deadline_that_passes_in_the_queue(own_app: App, own_client: Client) -> None:
    model = own_client.model("digits")
    _ = model.info
    with ThreadPoolExecutor(2) as pool, held_engines() as engines:
        running = pool.submit(lambda: model.encode(X).mu)
        engines.wait_for_a_run()
        with pytest.raises(DeadlineExceeded):
            model.encode(X, timeout=0.2)
        engines.release()
        assert running.result(30).shape == (2, 20)
    wait_for(own_app, f'vaeserve_rejected_total{{{GRAPH},reason="EXPIRED"}}', 1)
    assert rejected(own_app, "CANCELLED") == 0
    labels = 'grpc_method="Encode",grpc_service="vaeserve.v1.VaeService",grpc_type="unary"'
    wait_for(own_app, f'grpc_server_handled_total{{grpc_code="DEADLINE_EXCEEDED",{labels}}}', 1)
    assert series(own_app)[f"vaeserve_batch_rows_sum{{{GRAPH}}}"] == 2


def test_a_caller_that_cancels_in_the_queue(own_app: App) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{own_app.port}") as channel, held_engines() as engines:
        stub = VaeServiceStub(channel)
        request = pb.EncodeRequest(model="digits", input=to_tensor(X))
        running = stub.Encode.future(request, timeout=30)
        engines.wait_for_a_run()
        leaver, stayer = (stub.Encode.future(request, timeout=30) for _ in range(2))
        wait_for(own_app, f"vaeserve_queue_rows{{{GRAPH}}}", 4)
        leaver.cancel()
        assert leaver.cancelled()
        labels = 'grpc_method="Encode",grpc_service="vaeserve.v1.VaeService",grpc_type="unary"'
        # What the same connection asks later is answered after the cancellation has been noticed.
        models = model_service_pb2_grpc.ModelServiceStub(channel)
        models.ListModels(model_service_pb2.ListModelsRequest(), timeout=10)
        engines.release()
        assert running.result().mu.data == stayer.result().mu.data
        wait_for(own_app, f'grpc_server_handled_total{{grpc_code="OK",{labels}}}', 2)
        wait_for(own_app, f'grpc_server_handled_total{{grpc_code="CANCELLED",{labels}}}', 1)
    assert rejected(own_app, "CANCELLED") == 1


def test_a_wait_that_cannot_end_in_time_is_refused_at_once(own_app: App) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{own_app.port}") as channel, held_engines() as engines:
        stub = VaeServiceStub(channel)
        request = pb.EncodeRequest(model="digits", input=to_tensor(X))
        slow = stub.Encode.future(request, timeout=30)
        engines.wait_for_a_run()
        # The measured run times are what predictions are made of: let one run take half a second.
        threading.Timer(0.5, engines.release).start()
        slow.result()
    with grpc.insecure_channel(f"127.0.0.1:{own_app.port}") as channel, held_engines() as engines:
        stub = VaeServiceStub(channel)
        running = stub.Encode.future(request, timeout=30)
        engines.wait_for_a_run()
        with pytest.raises(grpc.RpcError) as refusal:
            stub.Encode(request, timeout=0.15)
        status = rpc_status.from_call(cast("grpc.Call", refusal.value))
        info = error_details_pb2.ErrorInfo()
        assert status is not None
        assert status.details[0].Unpack(info)
        assert info.reason == "QUEUE_WAIT"
        assert rejected(own_app, "QUEUE_WAIT") == 1
        engines.release()
        running.result()


def test_out_of_memory(own_app: App, own_client: Client) -> None:
    with held_engines() as engines:
        engines.failure = EngineMemoryError("2 rows do not fit into memory")
        engines.release()
        with pytest.raises(OutOfMemory) as refusal:
            own_client.model("digits").encode(X)
    assert refusal.value.retry_after == pytest.approx(1.0)
    assert rejected(own_app, "OUT_OF_MEMORY") == 1
    assert own_client.model("digits").encode(X).mu.shape == (2, 20)


def test_an_unforeseen_failure_is_known_by_its_id(
    own_client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with held_engines() as engines:
        engines.failure = ZeroDivisionError("secret")
        engines.release()
        with pytest.raises(InternalError) as refusal:
            own_client.model("digits").encode(X)
    assert "secret" not in str(refusal.value)
    (record,) = (record for record in caplog.records if "error_id" in record.__dict__)
    assert record.__dict__["error_id"] in str(refusal.value)


def test_calls_in_flight_finish_while_the_server_stops(own_repository: Path) -> None:
    app = make_app(own_repository, drain_delay_s=0, grace_s=30, placement="thread")
    app.start()
    with (
        Client(f"127.0.0.1:{app.port}", retries=0) as client,
        ThreadPoolExecutor(5) as pool,
        held_engines() as engines,
    ):
        model = client.model("digits")
        expected_info = model.info
        # Two graphs, one after the other: both must outlive the refusal of new calls.
        calls = [pool.submit(lambda: np.asarray(model.reconstruct(X))) for _ in range(4)]
        engines.wait_for_a_run()
        wait_for(app, f"vaeserve_in_flight{{{GRAPH}}}", 4)
        draining = threading.Thread(target=app.drain)
        draining.start()
        assert refused_in_the_end(client)
        engines.release()
        for call in calls:
            assert call.result(30).shape == (2, *expected_info.input_shape)
        draining.join(30)
        assert not draining.is_alive()


def refused_in_the_end(client: Client) -> bool:
    for _ in range(10_000):
        try:
            client.models()
        except Unavailable:
            return True
    return False


def test_calls_while_loading_are_told_so(
    own_repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading, go_on = threading.Event(), threading.Event()
    real_load = loading_module.load_catalogue

    def load(*arguments: Any, **options: Any) -> Any:
        loading.set()
        assert go_on.wait(60)
        return real_load(*arguments, **options)

    monkeypatch.setattr(app_module, "load_catalogue", load)
    app = make_app(own_repository)
    starting = threading.Thread(target=app.start)
    starting.start()
    assert loading.wait(30)
    address = f"127.0.0.1:{app.port}"
    with Client(address, retries=0) as client:
        for call in (client.models, lambda: client.model("digits").sample(1)):
            with pytest.raises(Unavailable) as refusal:
                call()
            assert refusal.value.reason == "LOADING"
        assert health_of(address, "") == 1
        assert health_of(address, "vaeserve.v1.VaeService") == 2
        go_on.set()
        starting.join(60)
        assert health_of(address, "vaeserve.v1.VaeService") == 1
        assert client.model("digits").sample(1).shape == (1, 1, 8, 8)
    app.stop(grace_s=5)


def test_calls_that_never_send_their_message_do_not_stop_health(own_app: App) -> None:
    address = f"127.0.0.1:{own_app.port}"
    channels = [grpc.insecure_channel(address, [("grpc.n", n)]) for n in range(5)]
    never = threading.Event()

    def silence() -> Iterator[bytes]:
        never.wait(60)
        yield b""

    try:
        for channel in channels:
            # A stream to a unary method opens the call and leaves its message out.
            call: Any = channel.stream_unary("/vaeserve.v1.VaeService/Encode")
            for _ in range(120):
                call.future(silence(), timeout=60)
            reflect: Any = channel.stream_stream(
                "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
            )
            for _ in range(5):
                reflect(silence(), timeout=60)
        assert health_of(address, "vaeserve.v1.VaeService") == 1
    finally:
        never.set()
        for channel in channels:
            channel.close()


async def test_five_thousand_calls_of_one_connection_at_once(address: str) -> None:
    async with AsyncClient(address, retries=0) as client:
        model = client.model("digits")
        await model.info()
        answers = await asyncio.gather(*[model.sample(1, seed=seed) for seed in range(5000)])
    assert [answer.seed for answer in answers] == list(range(5000))
