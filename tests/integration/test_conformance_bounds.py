"""What one caller can make a server hold: large messages, and answers that are not read."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from bench.http2 import framed
from support.raw_calls import (
    ENCODE,
    MODELS,
    OIP,
    REQUEST,
    VAE,
    Counts,
    Ending,
    begin,
    channel_to,
    ending,
    ending_of,
    padded,
    until,
)
from support.raw_http2 import Wire, headers, wire_to
from support.servers import held_engines, running_app
from support.streams import ENCODE_STREAM, Stream
from vaeserve.inference import grpc_service_pb2 as oip_pb
from vaeserve.v1 import vae_service_pb2 as pb
from vaeserve.v1.arrays import to_tensor
from vaeserve.v1.tensor_pb2 import Tensor
from vaeserve_server import large_messages, quota, stream
from vaeserve_server.app import App
from vaeserve_server.vae import VaeHandlers

Code = grpc.StatusCode
MIB = 1 << 20
MARKED = pb.EncodeRequest(first_row=1).SerializeToString()
"""Changes nothing in what REQUEST means."""

DECODE = f"{VAE}/Decode"
DECODE_STREAM = f"{VAE}/DecodeStream"
LARGE_ANSWER = pb.DecodeRequest(
    model="rgb", latents=to_tensor(np.zeros((256, 5), np.float32))
).SerializeToString()
LARGE_ANSWER_BYTES = 256 * 3 * 9 * 11 * 4

GROWING: dict[str, tuple[str, bytes]] = {
    "outputs": (ENCODE, REQUEST + b"\x22\x80\x80\x80\x1e" + bytes(60 * MIB)),
    "outputs in a stream": (ENCODE_STREAM, REQUEST + b"\x22\x80\x80\x40" + bytes(MIB)),
    "dimensions": (ENCODE, pb.EncodeRequest(input=Tensor(shape=[1] * MIB)).SerializeToString()),
    "a method without arrays": (f"{MODELS}/ListModels", b"\x0a\x80\x80\x40" + bytes(MIB)),
    "samples": (f"{VAE}/SampleStream", b"\x3a\x80\x80\x40" + bytes(MIB)),
    "empty inputs": (f"{OIP}/ModelInfer", b"\x2a\x00" * MIB),
    "levels": (
        f"{OIP}/ModelInfer",
        oip_pb.ModelInferRequest(
            inputs=[
                oip_pb.ModelInferRequest.InferInputTensor(
                    contents=oip_pb.InferTensorContents(uint_contents=bytes(9 * MIB))
                )
            ]
        ).SerializeToString(),
    ),
}


@pytest.mark.parametrize("case", GROWING)
def test_messages_that_would_grow(served: App, case: str) -> None:
    """A few KB on the wire, megabytes as a message, ten times that once it were parsed."""
    path, data = GROWING[case]
    with channel_to(served) as channel:
        call: Any = channel.stream_stream(path)
        refused = call(iter([data]), timeout=60, compression=grpc.Compression.Gzip)
        with pytest.raises(grpc.RpcError):
            next(refused)
        assert refused.code() is Code.INVALID_ARGUMENT
        assert "more than" in refused.details()
        assert ending(channel, ENCODE, REQUEST).code is Code.OK


class Gate:
    """Keeps requests that hold MARKED waiting where they were just parsed."""

    def __init__(self) -> None:
        self.parsed = 0
        self._opened = threading.Event()
        self._real = VaeHandlers.encode

    def open(self) -> None:
        self._opened.set()

    def pass_through(self, handlers: VaeHandlers, request: pb.EncodeRequest) -> Any:
        if request.first_row:
            self.parsed += 1
            assert self._opened.wait(60), "the test never opened the gate"
        return self._real(handlers, request)


@contextmanager
def gate() -> Iterator[Gate]:
    """For servers that are made after it; opened at the end."""
    made = Gate()

    def encode(handlers: VaeHandlers, request: pb.EncodeRequest) -> Any:
        return made.pass_through(handlers, request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VaeHandlers, "encode", encode)
        try:
            yield made
        finally:
            made.open()


def test_large_messages_wait_in_bounded_memory(
    repository: Path, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_messages, "MOST_WAITING_BYTES", 3 * MIB + MIB // 2)
    large = padded(MIB) + MARKED
    with (
        gate() as held,
        running_app(repository, transport=transport) as app,
        channel_to(app) as channel,
    ):
        calls = [begin(channel, ENCODE, large) for _ in range(5)]
        until(lambda: (held.parsed, sum(call.done() for call in calls)), (2, 2))
        # One that is not large is answered meanwhile.
        plain = ending(channel, ENCODE, REQUEST)
        assert plain.code is Code.OK
        held.open()
        ends = [ending_of(call) for call in calls]
        refused = [end for end in ends if end.code is not Code.OK]
        assert len(refused) == 2
        for end in refused:
            assert_full(end)
        assert [end for end in ends if end not in refused] == [plain] * 3
        # What was held has been let go.
        assert [ending(channel, ENCODE, large) for _ in range(5)] == [plain] * 5


def assert_full(end: Ending) -> None:
    assert (end.code, end.reason) == (Code.RESOURCE_EXHAUSTED, "QUEUE_FULL")
    assert end.retry_after_ms


def test_large_messages_of_callers_who_left_are_not_parsed(
    repository: Path, transport: str
) -> None:
    large = padded(MIB) + MARKED
    with (
        gate() as held,
        running_app(repository, transport=transport) as app,
        channel_to(app) as channel,
    ):
        counts = Counts(app)
        first = [begin(channel, ENCODE, large) for _ in range(2)]
        until(lambda: held.parsed, 2)
        leavers = [begin(channel, ENCODE, large) for _ in range(5)]
        until(lambda: counts()["received"], 7)
        for leaver in leavers:
            leaver.cancel()
        # What the connection asks later is answered after the cancellation has been noticed.
        assert ending(channel, f"{MODELS}/ListModels", b"").code is Code.OK
        held.open()
        assert {ending_of(call).code for call in first} == {Code.OK}
        counts.settle(started=7, received=7, sent=2, OK=2, CANCELLED=5)
        assert held.parsed == 2


@pytest.fixture
def tight(repository: Path, transport: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    """A server with room for two large answers that are not read, and for one in a stream."""
    monkeypatch.setattr(quota, "MOST_UNREAD_BYTES", 5 * LARGE_ANSWER_BYTES // 2)
    monkeypatch.setattr(stream, "MOST_BYTES", LARGE_ANSWER_BYTES)
    with running_app(repository, transport=transport, placement="thread") as app:
        yield app


def call_blindly(wire: Wire, number: int, path: str, *messages: bytes) -> None:
    wire.call(number, headers(path=path.encode()))
    for position, message in enumerate(messages, 1):
        wire.data(number, framed(message), end=position == len(messages))


def test_answers_that_are_not_read_are_bounded(tight: App) -> None:
    counts = Counts(tight, DECODE)
    with channel_to(tight) as channel:
        with wire_to(tight) as wire:
            wire.open(window=0)
            for number in range(2):
                call_blindly(wire, 2 * number + 1, DECODE, LARGE_ANSWER)
            until(lambda: counts().get("OK"), 2)
            # Whoever asks for little is answered.
            assert ending(channel, ENCODE, REQUEST).code is Code.OK
            assert_full(ending(channel, DECODE, LARGE_ANSWER))
            streamed = Stream(channel, DECODE_STREAM)
            streamed.send(LARGE_ANSWER)
            assert streamed.rest() == (Code.RESOURCE_EXHAUSTED, [])
        until(lambda: ending(channel, DECODE, LARGE_ANSWER).code, Code.OK)


def test_answers_of_streams_that_are_not_read_are_bounded(tight: App, transport: str) -> None:
    """By the stream itself, and all of them together with those of calls."""
    counts = Counts(tight, DECODE_STREAM)
    # One that is being sent; the public API's reader also takes on another, and holds a third.
    received = 1 if transport == "lane" else 3
    with channel_to(tight) as channel:
        with wire_to(tight) as wire:
            wire.open(window=0)
            call_blindly(wire, 1, DECODE_STREAM, *[LARGE_ANSWER] * 10)
            until(lambda: counts().get("received"), received)
            assert ending(channel, ENCODE, REQUEST).code is Code.OK
            assert counts()["received"] == received
        counts.settle_somehow()
        # What it held has been let go.
        streamed = Stream(channel, DECODE_STREAM)
        streamed.send(*[LARGE_ANSWER] * 10)
        streamed.end()
        code, answers = streamed.rest()
        assert (code, len(answers)) == (Code.OK, 10)


def test_a_stream_that_is_left_lets_go_of_its_answers(tight: App) -> None:
    """A small one comes first, so that several large ones are taken on before one is made."""
    small = pb.DecodeRequest(model="rgb", latents=to_tensor(np.zeros((1, 5), np.float32)))
    counts = Counts(tight, DECODE_STREAM)
    with channel_to(tight) as channel:
        with wire_to(tight) as wire, held_engines() as engines:
            wire.open(window=16_000)
            call_blindly(wire, 1, DECODE_STREAM, small.SerializeToString(), *[LARGE_ANSWER] * 8)
            engines.let_one_pass()
            until(lambda: counts().get("received"), 9)
            engines.release()
            until(lambda: ending(channel, DECODE, LARGE_ANSWER).code, Code.RESOURCE_EXHAUSTED)
        counts.settle_somehow()
        calls = Counts(tight, DECODE)
        with wire_to(tight) as wire:
            wire.open(window=0)
            for number in range(2):
                call_blindly(wire, 2 * number + 1, DECODE, LARGE_ANSWER)
            until(lambda: calls().get("OK"), 2)
