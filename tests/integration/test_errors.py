"""Bad input gets the answer of the table, and the server lives."""

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from support.failures import failure
from support.servers import series
from vaeserve.v1 import model_service_pb2, model_service_pb2_grpc, vae_service_pb2 as pb
from vaeserve.v1.arrays import to_tensor
from vaeserve.v1.tensor_pb2 import DATA_TYPE_UINT8, Tensor
from vaeserve.v1.vae_service_pb2_grpc import VaeServiceStub
from vaeserve_server.app import App

RawCall = Callable[..., bytes]

X = np.zeros((2, 1, 8, 8), np.float32)
Z = np.zeros((2, 20), np.float32)


@pytest.fixture
def channel(address: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(address) as opened:
        yield opened


@pytest.fixture
def stub(channel: grpc.Channel) -> Iterator[VaeServiceStub]:
    """A stub of the service, which must still answer when the test is over."""
    made = VaeServiceStub(channel)
    yield made
    made.Encode(pb.EncodeRequest(model="digits", input=to_tensor(X)), timeout=10)


def with_value(array: np.ndarray[Any, Any], value: float) -> Tensor:
    changed = array.copy()
    changed.flat[3] = value
    return to_tensor(changed)


def tensor(array: np.ndarray[Any, Any], **changes: Any) -> Tensor:
    message = to_tensor(array)
    for name, value in changes.items():
        message.ClearField(name)  # type: ignore[arg-type]  # the literal names of Tensor's fields
        if isinstance(value, list):
            message.shape.extend(value)
        else:
            setattr(message, name, value)
    return message


def encode(**changes: Any) -> pb.EncodeRequest:
    return pb.EncodeRequest(**{"model": "digits", "input": to_tensor(X), **changes})


def decode(**changes: Any) -> pb.DecodeRequest:
    return pb.DecodeRequest(**{"model": "digits", "latents": to_tensor(Z), **changes})


def sample(**changes: Any) -> pb.SampleRequest:
    return pb.SampleRequest(**{"model": "digits", "n": 2, **changes})


def interpolate(**changes: Any) -> pb.InterpolateRequest:
    ends = {"start": to_tensor(X), "end": to_tensor(X), "steps": 3}
    return pb.InterpolateRequest(**{"model": "digits", **ends, **changes})


def reconstruct(**changes: Any) -> pb.ReconstructRequest:
    return pb.ReconstructRequest(**{"model": "digits", "input": to_tensor(X), **changes})


INVALID, RANGE = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE
MISSING, PRECONDITION = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION
VECTORS = to_tensor(np.zeros((2, 6), np.float32))

CASES: dict[str, tuple[Any, grpc.StatusCode, str, str | None]] = {
    "no tensor": (encode(input=Tensor()), INVALID, "INVALID_TENSOR", "input"),
    "row shape": (
        encode(input=tensor(X, shape=[2, 64])),
        INVALID,
        "INVALID_TENSOR",
        "input",
    ),
    "dtype": (encode(input=tensor(X, dtype=77)), INVALID, "INVALID_TENSOR", "input"),
    "too few bytes": (encode(input=tensor(X, data=b"123")), INVALID, "INVALID_TENSOR", "input"),
    "huge product": (
        encode(input=tensor(X, shape=[1 << 62, 1, 8, 8], data=b"")),
        INVALID,
        "INVALID_TENSOR",
        "input",
    ),
    "huge product, decode": (
        decode(latents=tensor(Z, shape=[1 << 61, 20])),
        INVALID,
        "INVALID_TENSOR",
        "latents",
    ),
    "negative dimension": (
        encode(input=tensor(X, shape=[-2, 1, 8, 8])),
        INVALID,
        "INVALID_TENSOR",
        "input",
    ),
    "no rows": (encode(input=to_tensor(X[:0])), INVALID, "INVALID_TENSOR", "input"),
    "NaN": (encode(input=with_value(X, np.nan)), INVALID, "NOT_FINITE", "input"),
    "Inf": (encode(input=with_value(X, np.inf)), INVALID, "NOT_FINITE", "input"),
    "NaN latents": (decode(latents=with_value(Z, np.nan)), INVALID, "NOT_FINITE", "latents"),
    "uint8 latents": (
        decode(latents=to_tensor(Z.astype(np.uint8))),
        INVALID,
        "INVALID_TENSOR",
        "latents",
    ),
    "uint8 vectors": (
        encode(
            model="vectors",
            input=Tensor(dtype=DATA_TYPE_UINT8, shape=[1, 6], data=bytes(6)),
        ),
        INVALID,
        "INVALID_TENSOR",
        "input",
    ),
    "uint8 vectors out": (
        sample(model="vectors", x_hat_dtype=DATA_TYPE_UINT8),
        INVALID,
        "INVALID_OPTION",
        "x_hat_dtype",
    ),
    "unknown dtype out": (sample(x_hat_dtype=9), INVALID, "INVALID_OPTION", "x_hat_dtype"),
    "unknown output": (encode(outputs=[17]), INVALID, "INVALID_OPTION", "outputs"),
    "unspecified output": (sample(outputs=[0]), INVALID, "INVALID_OPTION", "outputs"),
    "draws without asking": (encode(draws=2), INVALID, "INVALID_OPTION", "draws"),
    "asking without draws": (
        encode(outputs=[pb.ENCODE_OUTPUT_DRAWS]),
        INVALID,
        "INVALID_OPTION",
        "draws",
    ),
    "too many draws": (
        encode(outputs=[pb.ENCODE_OUTPUT_DRAWS], draws=2**32 - 1),
        RANGE,
        "TOO_MANY_ROWS",
        "draws",
    ),
    "draws of many rows": (
        encode(
            input=to_tensor(np.zeros((256, 1, 8, 8), np.float32)),
            outputs=[pb.ENCODE_OUTPUT_DRAWS],
            draws=300,
        ),
        RANGE,
        "TOO_MANY_ROWS",
        "draws",
    ),
    "many dimensions": (
        encode(input=tensor(X, shape=[1] * 200_000)),
        INVALID,
        "INVALID_TENSOR",
        "input",
    ),
    "a million dimensions": (
        encode(input=tensor(X, shape=[1] * 1_000_000)),
        INVALID,
        "MALFORMED_MESSAGE",
        "input.shape",
    ),
    "many outputs": (encode(outputs=[1] * 200_000), INVALID, "INVALID_OPTION", "outputs"),
    "a million outputs": (encode(outputs=[1] * 1_000_000), INVALID, "MALFORMED_MESSAGE", "outputs"),
    "values that overflow": (
        encode(model="vectors", input=to_tensor(np.full((1, 6), 3e38, np.float32))),
        INVALID,
        "NOT_FINITE",
        None,
    ),
    "levels as floats": (
        encode(input=to_tensor(np.full_like(X, 255.0))),
        INVALID,
        "INVALID_TENSOR",
        "input",
    ),
    "below the unit interval": (
        encode(input=with_value(X, -0.5)),
        INVALID,
        "INVALID_TENSOR",
        "input",
    ),
    "latents that overflow": (
        decode(model="vectors", latents=to_tensor(np.full((1, 3), 3e38, np.float32))),
        INVALID,
        "NOT_FINITE",
        None,
    ),
    "latents that overflow, as levels": (
        decode(latents=to_tensor(np.full_like(Z, 3e38)), x_hat_dtype=DATA_TYPE_UINT8),
        INVALID,
        "NOT_FINITE",
        None,
    ),
    "a name of 200 kilobytes": (
        encode(model="\N{PILE OF POO}" * 50_000),
        MISSING,
        "MODEL_NOT_FOUND",
        "model",
    ),
    "first row": (sample(first_row=1 << 40), INVALID, "INVALID_OPTION", "first_row"),
    "last row of draws": (
        encode(first_row=(1 << 40) - 1, draws=1, outputs=[pb.ENCODE_OUTPUT_DRAWS]),
        INVALID,
        "INVALID_OPTION",
        "first_row",
    ),
    "last row": (sample(n=2, first_row=(1 << 40) - 1), INVALID, "INVALID_OPTION", "first_row"),
    "first row of draws": (
        reconstruct(draw=True, first_row=1 << 41),
        INVALID,
        "INVALID_OPTION",
        "first_row",
    ),
    "no samples": (sample(n=0), INVALID, "INVALID_OPTION", "n"),
    "negative temperature": (
        sample(temperature=-1.0),
        INVALID,
        "INVALID_OPTION",
        "temperature",
    ),
    "NaN temperature": (sample(temperature=np.nan), INVALID, "INVALID_OPTION", "temperature"),
    "one step": (interpolate(steps=1), INVALID, "INVALID_OPTION", "steps"),
    "unknown path": (interpolate(path=9), INVALID, "INVALID_OPTION", "path"),
    "unknown space": (interpolate(space=9), INVALID, "INVALID_OPTION", "path"),
    "unpaired ends": (interpolate(end=to_tensor(X[:1])), INVALID, "INVALID_TENSOR", "end"),
    "too many rows": (
        encode(input=to_tensor(np.zeros((257, 1, 8, 8), np.float32))),
        RANGE,
        "TOO_MANY_ROWS",
        "input",
    ),
    "too many samples": (sample(n=2**32 - 1), RANGE, "TOO_MANY_ROWS", "n"),
    "too many steps": (interpolate(steps=2**31), RANGE, "TOO_MANY_ROWS", "steps"),
    "unknown model": (encode(model="nobody"), MISSING, "MODEL_NOT_FOUND", "model"),
    "no model": (decode(model=""), MISSING, "MODEL_NOT_FOUND", "model"),
    "a path for a model": (encode(model="../digits"), MISSING, "MODEL_NOT_FOUND", "model"),
    "unknown version": (sample(version=2), MISSING, "VERSION_NOT_FOUND", "version"),
    "negative version": (sample(version=-1), MISSING, "VERSION_NOT_FOUND", "version"),
    "another latent space": (
        decode(latent_space_id="0" * 32),
        PRECONDITION,
        "LATENT_SPACE_MISMATCH",
        None,
    ),
    "another latent space, path": (
        interpolate(
            space=pb.INTERPOLATION_SPACE_LATENT,
            start=to_tensor(Z),
            end=to_tensor(Z),
            latent_space_id="x" * 10_000,
        ),
        PRECONDITION,
        "LATENT_SPACE_MISMATCH",
        None,
    ),
}

METHODS = {
    pb.EncodeRequest: "Encode",
    pb.DecodeRequest: "Decode",
    pb.SampleRequest: "Sample",
    pb.InterpolateRequest: "Interpolate",
    pb.ReconstructRequest: "Reconstruct",
}


@pytest.mark.parametrize("case", CASES)
def test_bad_requests(stub: VaeServiceStub, case: str) -> None:
    request, code, reason, field = CASES[case]
    method = getattr(stub, METHODS[type(request)])
    *answer, message = failure(lambda: method(request, timeout=10))
    assert answer == [code, reason, field]
    assert len(message.encode()) <= 1024
    assert "Traceback" not in message


@pytest.mark.parametrize("method", sorted(METHODS.values()))
@pytest.mark.parametrize("data", [b"\xff" * 20, b"no protobuf", b"\x0a\xff\xff\xff\xff\x0f"])
def test_messages_that_are_none(
    stub: VaeServiceStub, channel: grpc.Channel, method: str, data: bytes
) -> None:
    call: RawCall = channel.unary_unary(f"/vaeserve.v1.VaeService/{method}")
    code, reason, _, _ = failure(lambda: call(data, timeout=10))
    assert (code, reason) == (INVALID, "MALFORMED_MESSAGE")
    assert stub is not None


@pytest.mark.parametrize("kept", [1, 10, 100, -1])
def test_truncated_messages(stub: VaeServiceStub, channel: grpc.Channel, kept: int) -> None:
    data = encode().SerializeToString()[:kept]
    call: RawCall = channel.unary_unary("/vaeserve.v1.VaeService/Encode")
    code, reason, _, _ = failure(lambda: call(data, timeout=10))
    assert code is INVALID
    assert reason in ("MALFORMED_MESSAGE", "INVALID_TENSOR")
    assert stub is not None


def test_a_message_over_the_limit(stub: VaeServiceStub, channel: grpc.Channel) -> None:
    call: RawCall = channel.unary_unary("/vaeserve.v1.VaeService/Encode")
    with pytest.raises(grpc.RpcError) as raised:
        call(bytes((64 << 20) + 1), timeout=30)
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert stub is not None


def test_one_bad_value_does_not_spoil_the_metrics(app: App, stub: VaeServiceStub) -> None:
    huge = encode(model="vectors", input=to_tensor(np.full((1, 6), 3e38, np.float32)))
    failure(lambda: stub.Encode(huge, timeout=10))
    assert np.isfinite(series(app)['vaeserve_kl_nats_sum{model="vectors"}'])


def test_unknown_models_of_the_catalogue(channel: grpc.Channel) -> None:
    models = model_service_pb2_grpc.ModelServiceStub(channel)
    request = model_service_pb2.GetModelRequest(name="nobody")
    code, reason, field, message = failure(lambda: models.GetModel(request, timeout=10))
    assert (code, reason, field) == (MISSING, "MODEL_NOT_FOUND", "name")
    assert "digits, rgb, vectors" in message
