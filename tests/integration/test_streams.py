"""EncodeStream, DecodeStream and SampleStream on both transports."""

import queue
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from support.failures import failure
from support.servers import held_engines, running_app, series, wait_for
from vaeserve.v1 import arrays, vae_service_pb2 as pb
from vaeserve.v1.vae_service_pb2_grpc import VaeServiceStub
from vaeserve_server.app import App

GRAPH = 'graph="encoder",model="digits"'
WINDOW = 16
TRANSPORTS = ("lane", "standard")


@pytest.fixture(scope="module", params=TRANSPORTS)
def served(repository: Path, request: pytest.FixtureRequest) -> Iterator[App]:
    with running_app(repository, transport=request.param) as running:
        yield running


@pytest.fixture(params=TRANSPORTS)
def threaded(own_repository: Path, request: pytest.FixtureRequest) -> Iterator[App]:
    """A server whose transport goes on while its engines are held."""
    with running_app(own_repository, transport=request.param, placement="thread") as running:
        yield running


def channel_to(app: App) -> grpc.Channel:
    return grpc.insecure_channel(f"127.0.0.1:{app.port}")


@pytest.fixture
def stub(served: App) -> Iterator[VaeServiceStub]:
    with channel_to(served) as channel:
        yield VaeServiceStub(channel)


def rpc(method: str, kind: str = "bidi_stream") -> str:
    return f'grpc_method="{method}",grpc_service="vaeserve.v1.VaeService",grpc_type="{kind}"'


def pictures(rows: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).random((rows, 1, 8, 8), np.float32)


def encode(rows: int, seed: int = 0, model: str = "digits") -> pb.EncodeRequest:
    return pb.EncodeRequest(model=model, input=arrays.to_tensor(pictures(rows, seed)))


class Requests:
    """What a caller sends, message by message."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def send(self, message: Any) -> None:
        self._queue.put(message)

    def half_close(self) -> None:
        self._queue.put(None)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._queue.get, None)


def test_encode_stream_is_encode_message_by_message(stub: VaeServiceStub) -> None:
    requests = [encode(1 + number % 5, number) for number in range(100)]
    requests[7].outputs.append(pb.ENCODE_OUTPUT_LOG_VAR)
    requests[50].outputs.append(pb.ENCODE_OUTPUT_DRAWS)
    requests[50].draws, requests[50].seed = 3, 5
    answers = list(stub.EncodeStream(iter(requests), timeout=60))
    assert answers == [stub.Encode(request, timeout=60) for request in requests]


def test_decode_stream_is_decode_message_by_message(stub: VaeServiceStub) -> None:
    rng = np.random.default_rng(1)
    requests = [
        pb.DecodeRequest(
            model="digits",
            latents=arrays.to_tensor(rng.normal(size=(1 + number % 4, 20)).astype(np.float32)),
            x_hat_dtype=arrays.UINT8 if number % 3 else arrays.FLOAT32,
        )
        for number in range(60)
    ]
    answers = list(stub.DecodeStream(iter(requests), timeout=60))
    assert answers == [stub.Decode(request, timeout=60) for request in requests]


def test_models_may_be_mixed_in_one_stream(stub: VaeServiceStub) -> None:
    rgb = np.random.default_rng(0).random((9, 3, 9, 11), np.float32)
    requests = []
    for number in range(20):
        requests.append(encode(1, number))
        requests.append(pb.EncodeRequest(model="rgb", input=arrays.to_tensor(rgb)))
    answers = list(stub.EncodeStream(iter(requests), timeout=60))
    assert answers == [stub.Encode(request, timeout=60) for request in requests]


@pytest.mark.parametrize("outputs", [[], [pb.GENERATE_OUTPUT_X_HAT, pb.GENERATE_OUTPUT_LATENTS]])
def test_sample_stream_joined_is_sample(stub: VaeServiceStub, outputs: list[Any]) -> None:
    request = pb.SampleRequest(
        model="digits", n=1000, seed=11, first_row=70, temperature=0.5, outputs=outputs
    )
    parts = list(stub.SampleStream(request, timeout=60))
    assert len(parts) > 1
    assert {part.seed for part in parts} == {11}
    whole = []
    for begin in range(0, 1000, 100):
        one = pb.SampleRequest()
        one.CopyFrom(request)
        one.n, one.first_row = 100, 70 + begin
        whole.append(stub.Sample(one, timeout=60))
    for name in ("x_hat", "latents") if outputs else ("x_hat",):
        joined, expected = (
            np.concatenate([arrays.from_tensor(getattr(answer, name)) for answer in answers])
            for answers in (parts, whole)
        )
        assert len(joined) == 1000
        np.testing.assert_array_equal(joined, expected)


def test_parts_of_an_unnamed_seed_have_the_same(stub: VaeServiceStub) -> None:
    parts = list(stub.SampleStream(pb.SampleRequest(model="digits", n=600), timeout=60))
    (seed,) = {part.seed for part in parts}
    again = list(stub.SampleStream(pb.SampleRequest(model="digits", n=600, seed=seed), timeout=60))
    assert again == parts


def test_no_messages_no_answers(stub: VaeServiceStub) -> None:
    call = stub.EncodeStream(iter(()), timeout=60)
    assert list(call) == []
    assert call.code() is grpc.StatusCode.OK


def test_answers_come_before_the_caller_has_finished(stub: VaeServiceStub) -> None:
    requests = Requests()
    call = stub.EncodeStream(iter(requests), timeout=60)
    for seed in range(5):
        requests.send(encode(2, seed))
        assert next(call) == stub.Encode(encode(2, seed), timeout=60)
    requests.half_close()
    assert list(call) == []
    assert call.code() is grpc.StatusCode.OK


BAD: list[tuple[Any, grpc.StatusCode, str]] = [
    (encode(1, model="nobody"), grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND"),
    (
        pb.EncodeRequest(
            model="digits", input=arrays.to_tensor(np.full((1, 1, 8, 8), np.nan, np.float32))
        ),
        grpc.StatusCode.INVALID_ARGUMENT,
        "NOT_FINITE",
    ),
    (b"\xff\xff\xff", grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_MESSAGE"),
]


@pytest.mark.parametrize(("bad", "code", "reason"), BAD, ids=lambda value: str(value)[:9])
def test_an_error_ends_the_stream_after_the_answers_before_it(
    served: App, bad: Any, code: grpc.StatusCode, reason: str
) -> None:
    good = [encode(1 + number, number) for number in range(6)]
    with channel_to(served) as channel:
        stream: Any = channel.stream_stream("/vaeserve.v1.VaeService/EncodeStream")
        messages = [request.SerializeToString() for request in good]
        broken = bad if isinstance(bad, bytes) else bad.SerializeToString()
        call = stream(iter([*messages[:4], broken, *messages[4:]]), timeout=60)
        answers: list[bytes] = []
        assert failure(lambda: answers.extend(call))[:2] == (code, reason)
        # One by one, for `extend` forgets what came before the error.
        call = stream(iter([*messages[:4], broken, *messages[4:]]), timeout=60)
        for request in good[:4]:
            unary = VaeServiceStub(channel).Encode(request, timeout=60)
            assert pb.EncodeResponse.FromString(next(call)) == unary
        assert failure(lambda: next(call))[:2] == (code, reason)


def test_a_sample_stream_that_cannot_begin(stub: VaeServiceStub) -> None:
    for request, reason in (
        (pb.SampleRequest(model="nobody", n=3), "MODEL_NOT_FOUND"),
        (pb.SampleRequest(model="digits", n=0), "INVALID_OPTION"),
        (pb.SampleRequest(model="digits", n=3, first_row=2**40 - 2), "INVALID_OPTION"),
    ):
        call = stub.SampleStream(request, timeout=60)
        assert failure(lambda call=call: next(call))[1] == reason  # type: ignore[misc]


def test_the_last_rows_that_there_are(stub: VaeServiceStub) -> None:
    request = pb.SampleRequest(model="digits", n=3, first_row=2**40 - 3, seed=1)
    (part,) = stub.SampleStream(request, timeout=60)
    assert part == stub.Sample(request, timeout=60)


def test_messages_are_batched_with_everybody_elses(threaded: App) -> None:
    with (
        channel_to(threaded) as channel,
        ThreadPoolExecutor(4) as pool,
        held_engines() as engines,
    ):
        stub = VaeServiceStub(channel)
        requests = Requests()
        call = stub.EncodeStream(iter(requests), timeout=60)
        requests.send(encode(1))
        engines.wait_for_a_run()
        engines.let_one_pass()
        next(call)  # how large answers are is known now
        first = pool.submit(stub.Encode, encode(1), timeout=60)
        engines.wait_for_a_run()
        unary = [pool.submit(stub.Encode, encode(2, seed), timeout=60) for seed in (1, 2)]
        for seed in range(5):
            requests.send(encode(3, seed))
        requests.half_close()
        wait_for(threaded, f"vaeserve_queue_rows{{{GRAPH}}}", 2 * 2 + 5 * 3)
        engines.release()
        answers = list(call)
        assert first.result(30).mu.shape == [1, 20]
        samples = series(threaded)
        assert samples[f"vaeserve_batch_rows_count{{{GRAPH}}}"] == 3
        assert samples[f"vaeserve_batch_rows_sum{{{GRAPH}}}"] == 1 + 1 + 2 * 2 + 5 * 3
        assert answers == [stub.Encode(encode(3, seed), timeout=60) for seed in range(5)]
        for seed, answer in zip((1, 2), unary, strict=True):
            assert answer.result(30) == stub.Encode(encode(2, seed), timeout=60)


def test_a_stream_that_is_cancelled_takes_nobody_along(threaded: App) -> None:
    with channel_to(threaded) as channel, held_engines() as engines:
        stub = VaeServiceStub(channel)
        running = stub.Encode.future(encode(1), timeout=60)
        engines.wait_for_a_run()
        requests = Requests()
        leaver: Any = stub.EncodeStream(iter(requests), timeout=60)
        requests.send(encode(6))
        stayer = stub.Encode.future(encode(4), timeout=60)
        wait_for(threaded, f"vaeserve_queue_rows{{{GRAPH}}}", 6 + 4)
        leaver.cancel()
        requests.half_close()
        assert leaver.cancelled()
        engines.release()
        assert running.result().mu.shape == [1, 20]
        assert stayer.result().mu.shape == [4, 20]
        wait_for(
            threaded, f'grpc_server_handled_total{{grpc_code="CANCELLED",{rpc("EncodeStream")}}}', 1
        )
    for gauge in ("queue_rows", "in_flight"):
        wait_for(threaded, f"vaeserve_{gauge}{{{GRAPH}}}", 0)


def settled(app: App, *names: str) -> list[float]:
    """Values of series once they have not changed for a while."""
    quiet, last = 0, [-1.0]
    for _ in range(2000):
        samples = series(app)
        values = [samples[name] for name in names]
        quiet = quiet + 1 if values == last else 0
        if quiet == 20:
            return values
        last = values
        time.sleep(0.01)
    raise AssertionError(f"{names} never settled")


def test_a_caller_who_does_not_read_is_not_read_from(served: App) -> None:
    total = 1500
    labels = rpc("EncodeStream")
    received_name, sent_name = (
        f"grpc_server_msg_{what}_total{{{labels}}}" for what in ("received", "sent")
    )
    before = series(served)
    request = encode(256)
    with channel_to(served) as channel:
        stub = VaeServiceStub(channel)
        call = stub.EncodeStream((request for _ in range(total)), timeout=100)
        received, sent = settled(served, received_name, sent_name)
        received, sent = received - before[received_name], sent - before[sent_name]
        assert 0 < received <= sent + WINDOW + 1
        assert received < total / 2
        # Others are served as if nothing were.
        expected = stub.Encode(request, timeout=10)
        answers = 0
        for answer in call:
            assert answer == expected
            answers += 1
        assert answers == total
        assert call.code() is grpc.StatusCode.OK


def test_samples_are_made_as_fast_as_they_are_read(served: App) -> None:
    rows_name = 'vaeserve_rows_total{graph="decoder",model="rgb"}'
    sent_name = f"grpc_server_msg_sent_total{{{rpc('SampleStream', 'server_stream')}}}"
    before = series(served)
    n = 100_000
    with channel_to(served) as channel:
        stub = VaeServiceStub(channel)
        call = stub.SampleStream(pb.SampleRequest(model="rgb", n=n, seed=1), timeout=100)
        first = next(call)
        made, sent = settled(served, rows_name, sent_name)
        parts = made - before[rows_name]
        assert parts <= (sent - before[sent_name] + WINDOW + 1) * first.x_hat.shape[0]
        assert parts < n / 2
        call.cancel()
    cancelled = rpc("SampleStream", "server_stream")
    wait_for(
        served,
        f'grpc_server_handled_total{{grpc_code="CANCELLED",{cancelled}}}',
        before[f'grpc_server_handled_total{{grpc_code="CANCELLED",{cancelled}}}'] + 1,
    )
    for gauge in ("queue_rows", "in_flight"):
        wait_for(served, f'vaeserve_{gauge}{{graph="decoder",model="rgb"}}', 0)
