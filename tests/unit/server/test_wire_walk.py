"""Messages that are looked through before they are parsed: what may be large of them."""

from typing import Any

import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import given, strategies as st

from vaeserve.inference import grpc_service_pb2 as oip_pb
from vaeserve.v1 import model_service_pb2, vae_service_pb2 as pb
from vaeserve.v1.tensor_pb2 import Tensor
from vaeserve_server.errors import InvalidArgument
from vaeserve_server.wire_walk import MOST_BESIDES, MOST_VARINTS, check

MIB = 1 << 20
Infer = oip_pb.ModelInferRequest
Input = Infer.InferInputTensor
Contents = oip_pb.InferTensorContents


def field(number: int, wire: int, payload: bytes) -> bytes:
    length = varint(len(payload)) if wire == 2 else b""
    return varint(number << 3 | wire) + length + payload


def varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def typed(**contents: Any) -> Infer:
    return Infer(inputs=[Input(contents=Contents(**contents))])


SOUND: dict[str, Message] = {
    "a tensor": pb.EncodeRequest(model="m", input=Tensor(shape=[2, 3], data=bytes(4 * MIB))),
    "two tensors": pb.InterpolateRequest(
        start=Tensor(data=bytes(MIB)), end=Tensor(data=bytes(MIB))
    ),
    "one of two": pb.EditRequest(latents=Tensor(data=bytes(MIB)), amounts={"smile": 1.0}),
    "raw contents": Infer(inputs=[Input(name="x")], raw_input_contents=[bytes(MIB), bytes(MIB)]),
    "floats": typed(fp32_contents=[0.5] * 300_000),
    "levels": typed(uint_contents=[200] * 300_000),
    "a long name": pb.EncodeRequest(model="m" * (MOST_BESIDES - 100)),
    "nothing": model_service_pb2.ListModelsRequest(),
}
GROWING: dict[str, tuple[type[Message], bytes]] = {
    "outputs": (pb.EncodeRequest, field(4, 2, bytes(MIB))),
    "outputs one by one": (pb.EncodeRequest, field(4, 0, b"\1") * MIB),
    "dimensions": (pb.EncodeRequest, field(3, 2, field(2, 2, bytes(MIB)))),
    "empty tensors": (pb.EncodeRequest, field(3, 2, b"") * MIB),
    "empty inputs": (Infer, field(5, 2, b"") * MIB),
    "empty contents": (Infer, field(5, 2, field(5, 2, b"") * MIB)),
    "empty raw contents": (Infer, field(7, 2, b"") * MIB),
    "typed contents that no model takes": (
        Infer,
        field(5, 2, field(5, 2, field(3, 2, bytes(MIB)))),
    ),
    "outputs of the Open Inference Protocol": (Infer, field(6, 2, b"") * MIB),
    "parameters": (Infer, b"".join(field(4, 2, field(1, 2, b"%d" % i)) for i in range(20_000))),
    "an unknown field": (pb.EncodeRequest, field(1023, 2, bytes(MIB))),
    "unknown numbers": (pb.EncodeRequest, field(1023, 5, bytes(4)) * 20_000),
    "an array as another type": (pb.EncodeRequest, field(3, 2, field(3, 1, bytes(8)) * 20_000)),
    "a method without arrays": (model_service_pb2.ListModelsRequest, bytes(MIB)),
    "behind a sound array": (
        pb.EncodeRequest,
        field(3, 2, field(3, 2, bytes(MIB))) + field(4, 2, bytes(MIB)),
    ),
    "too many levels": (
        Infer,
        # Each part by itself would do.
        field(5, 2, field(5, 2, field(4, 2, bytes(MOST_VARINTS // 2 + 1)))) * 2,
    ),
}


@pytest.mark.parametrize("case", SOUND)
def test_arrays_may_be_large(case: str) -> None:
    message = SOUND[case]
    check(message.SerializeToString(), type(message))


@pytest.mark.parametrize("case", GROWING)
def test_what_would_grow_is_refused(case: str) -> None:
    kind, data = GROWING[case]
    with pytest.raises(InvalidArgument, match=r"more than \d+ bytes") as refusal:
        check(data, kind)
    assert refusal.value.reason == "MALFORMED_MESSAGE"


FIELDS = st.recursive(
    st.one_of(
        st.builds(field, st.integers(1, 12), st.just(0), st.integers(0, 2**64 - 1).map(varint)),
        st.builds(field, st.integers(1, 12), st.just(1), st.binary(min_size=8, max_size=8)),
        st.builds(field, st.integers(1, 12), st.just(5), st.binary(min_size=4, max_size=4)),
        st.builds(field, st.integers(1, 2000), st.just(2), st.binary(max_size=20)),
    ),
    lambda inner: st.builds(
        field, st.integers(1, 12), st.just(2), st.lists(inner, max_size=4).map(b"".join)
    ),
)


@given(
    st.lists(FIELDS, max_size=6).map(b"".join),
    st.sampled_from([pb.EncodeRequest, pb.EditRequest, pb.InterpolateRequest, Infer]),
)
def test_what_the_parser_takes_is_taken(data: bytes, kind: type[Message]) -> None:
    try:
        kind.FromString(data)
    except DecodeError:
        return
    check(data, kind)


@pytest.mark.parametrize(
    "data",
    [
        b"\x80",  # a tag without end
        b"\x1a",  # no length
        b"\x1a\x05abc",  # longer than the message
        b"\x1a\x02\x1a\x05abcde",  # longer than what it lies in
        b"\x08" + b"\xff" * 11,  # no number is so long
        b"\x19abc",  # half a number
        b"\x0b\x0c",  # a group
        b"\x0f",  # no such wire type
    ],
)
def test_what_cannot_be_read_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidArgument, match=r"is no vaeserve\.v1\.EncodeRequest"):
        check(data, pb.EncodeRequest)
