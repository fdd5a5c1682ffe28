"""The Open Inference Protocol gives the answers of our own calls."""

import json
import shutil
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from support.failures import failure
from support.oip import infer_request, outputs_of
from support.repositories import ROW_SHAPES
from support.servers import make_app, running_app, series
from vaeserve import Client
from vaeserve.inference import grpc_service_pb2 as pb
from vaeserve.inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from vaeserve_server.app import App

Stub = GRPCInferenceServiceStub
X = np.zeros((2, 1, 8, 8), np.float32)
Z = np.zeros((2, 20), np.float32)


def inputs(name: str, rows: int = 3) -> np.ndarray[Any, Any]:
    return np.random.default_rng(7).random((rows, *ROW_SHAPES[name]), np.float32)


def infer(oip: Stub, model: str, values: Any, **options: Any) -> dict[str, Any]:
    return outputs_of(oip.ModelInfer(infer_request(model, values, options=options), timeout=10))


@pytest.mark.parametrize("name", sorted(ROW_SHAPES))
def test_the_same_bits_as_our_own_calls(oip: Stub, client: Client, name: str) -> None:
    x, model = inputs(name), client.model(name)
    posterior = model.encode(x)
    encoded = infer(oip, f"{name}_encoder", x)
    np.testing.assert_array_equal(encoded["mu"], posterior.mu)
    np.testing.assert_array_equal(encoded["log_var"], posterior.log_var)

    z = np.asarray(posterior.mu)
    decoded = infer(oip, f"{name}_decoder", z)
    np.testing.assert_array_equal(decoded["x_hat"], model.decode(z))

    whole = infer(oip, name, x)
    np.testing.assert_array_equal(whole["x_hat"], model.reconstruct(x))


def test_levels_in_and_out(oip: Stub, client: Client) -> None:
    x = np.random.default_rng(3).integers(0, 256, (2, *ROW_SHAPES["rgb"]), np.uint8)
    ours = client.model("rgb").reconstruct(x, dtype="uint8")
    for typed in (False, True):
        request = infer_request("rgb", x, typed=typed, options={"x_hat_datatype": "UINT8"})
        got = outputs_of(oip.ModelInfer(request, timeout=10))["x_hat"]
        assert got.dtype == np.uint8
        np.testing.assert_array_equal(got, ours)


def test_a_draw_is_that_of_its_seed(oip: Stub, client: Client) -> None:
    x = inputs("digits")
    ours = client.model("digits").reconstruct(x, draw=True, seed=11, first_row=5)
    request = infer_request("digits", x, options={"draw": True, "seed": 11, "first_row": 5})
    reply = oip.ModelInfer(request, timeout=10)
    assert reply.parameters["seed"].uint64_param == 11
    np.testing.assert_array_equal(outputs_of(reply)["x_hat"], ours)

    cold = infer(oip, "digits", x, draw=True, seed=11, temperature=0.0)["x_hat"]
    np.testing.assert_array_equal(cold, infer(oip, "digits", x)["x_hat"])

    chosen = oip.ModelInfer(infer_request("digits", x, options={"draw": True}), timeout=10)
    seed = chosen.parameters["seed"].uint64_param
    again = infer(oip, "digits", x, draw=True, seed=seed)["x_hat"]
    np.testing.assert_array_equal(again, outputs_of(chosen)["x_hat"])


def test_outputs_that_are_asked_for(oip: Stub) -> None:
    request = infer_request("digits_encoder", X)
    everything = outputs_of(oip.ModelInfer(request, timeout=10))
    assert list(everything) == ["mu", "log_var"]
    for names in (["log_var"], ["log_var", "mu"]):
        del request.outputs[:]
        for name in names:
            request.outputs.add(name=name)
        got = outputs_of(oip.ModelInfer(request, timeout=10))
        assert list(got) == names
        for name in names:
            np.testing.assert_array_equal(got[name], everything[name])


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    data=st.one_of(
        arrays(np.float32, (2, *ROW_SHAPES["rgb"]), elements=st.floats(0, 1, width=32)),
        arrays(np.uint8, (2, *ROW_SHAPES["rgb"])),
    )
)
def test_typed_contents_are_raw_contents(oip: Stub, data: np.ndarray[Any, Any]) -> None:
    raw = infer_request("rgb_encoder", data)
    typed = infer_request("rgb_encoder", data, typed=True)
    answer = oip.ModelInfer(raw, timeout=10)
    assert oip.ModelInfer(typed, timeout=10) == answer


def test_what_clients_send_to_any_server_is_ignored(oip: Stub) -> None:
    sent = {"priority": 3, "timeout": 5, "sequence_id": 1, "sequence_start": True}
    assert infer(oip, "digits_encoder", X, **sent)["mu"].shape == (2, 20)


def test_statistics_add_up(repository: Path) -> None:
    with (
        running_app(repository) as app,
        grpc.insecure_channel(f"127.0.0.1:{app.port}") as channel,
        Client(f"127.0.0.1:{app.port}") as client,
    ):
        oip = GRPCInferenceServiceStub(channel)
        for rows in (1, 2, 2, 5):
            infer(oip, "digits_encoder", inputs("digits", rows))
        client.model("digits").encode(inputs("digits", 4))
        for _ in range(3):
            infer(oip, "digits", inputs("digits", 2))
        bad = infer_request("digits_encoder", X)
        bad.inputs[0].datatype = "FP64"
        failure(lambda: oip.ModelInfer(bad, timeout=10))

        everything = oip.ModelStatistics(pb.ModelStatisticsRequest(), timeout=10)
        stats = {model.name: model for model in everything.model_stats}
        encoder, decoder, whole = (stats[f"digits{part}"] for part in ("_encoder", "_decoder", ""))
        assert (encoder.inference_count, encoder.execution_count) == (20, 8)
        assert (decoder.inference_count, decoder.execution_count) == (6, 3)
        assert (whole.inference_count, whole.execution_count) == (6, 3)
        assert encoder.inference_stats.fail.count == 1
        for model, requests in ((encoder, 8), (decoder, 3), (whole, 3)):
            by_request = model.inference_stats
            assert by_request.success.count == requests
            assert by_request.queue.count == by_request.compute_infer.count == requests
            assert by_request.success.ns >= by_request.queue.ns + by_request.compute_infer.ns
            assert by_request.success.ns > 0
            assert model.last_inference > 1_700_000_000_000
        sizes = {batch.batch_size: batch.compute_infer.count for batch in encoder.batch_stats}
        assert sizes == {1: 1, 2: 5, 4: 1, 5: 1}
        run_ns = sum(batch.compute_infer.ns for batch in encoder.batch_stats)
        assert run_ns == encoder.inference_stats.compute_infer.ns
        samples = series(app)
        assert samples['vaeserve_rows_total{graph="encoder",model="digits"}'] == 20
        assert samples['vaeserve_kl_nats_count{model="digits"}'] == 20
        assert samples['vaeserve_reconstruction_nats_count{model="digits"}'] == 6


def test_a_whole_that_is_named_like_a_part_keeps_its_name(own_repository: Path) -> None:
    shutil.copytree(own_repository / "digits", own_repository / "digits_encoder")
    manifest = own_repository / "digits_encoder" / "1" / "model.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"name": "digits_encoder"}))
    with (
        running_app(own_repository) as app,
        grpc.insecure_channel(f"127.0.0.1:{app.port}") as channel,
    ):
        oip = GRPCInferenceServiceStub(channel)
        assert list(infer(oip, "digits_encoder", X)) == ["x_hat"]
        assert list(infer(oip, "digits_encoder_encoder", X)) == ["mu", "log_var"]


def test_readiness_follows_the_server(own_repository: Path) -> None:
    (own_repository / "broken" / "1").mkdir(parents=True)
    ready, live = pb.ServerReadyRequest(), pb.ServerLiveRequest()
    app: App = make_app(own_repository)
    app.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{app.port}") as channel:
            oip = GRPCInferenceServiceStub(channel)
            assert not oip.ServerReady(ready, timeout=10).ready
            assert oip.ModelReady(pb.ModelReadyRequest(name="digits"), timeout=10).ready
            index = oip.RepositoryIndex(pb.RepositoryIndexRequest(), timeout=10)
            broken = next(model for model in index.models if model.name == "broken_decoder")
            assert (broken.state, broken.version) == ("UNAVAILABLE", "")
            assert broken.reason
            only = oip.RepositoryIndex(pb.RepositoryIndexRequest(ready=True), timeout=10)
            assert {model.state for model in only.models} == {"READY"}
            app._health.not_ready()
            assert not oip.ModelReady(pb.ModelReadyRequest(name="digits"), timeout=10).ready
            assert oip.ServerLive(live, timeout=10).live
    finally:
        app.stop(grace_s=5)
