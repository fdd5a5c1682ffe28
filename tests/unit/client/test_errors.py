"""The error tree: every status has its class, and what the server says is kept."""

import inspect
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

import vaeserve
from unit.client.scripted_server import Failure, Script
from vaeserve import Client, VaeserveError, _errors
from vaeserve.v1 import vae_service_pb2 as pb

STATUSES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]

EXPECTED = {
    "ABORTED": VaeserveError,
    "ALREADY_EXISTS": VaeserveError,
    "CANCELLED": vaeserve.Unavailable,
    "DATA_LOSS": vaeserve.InternalError,
    "DEADLINE_EXCEEDED": vaeserve.DeadlineExceeded,
    "FAILED_PRECONDITION": vaeserve.FailedPrecondition,
    "INTERNAL": vaeserve.InternalError,
    "INVALID_ARGUMENT": vaeserve.InvalidInput,
    "NOT_FOUND": vaeserve.NotFound,
    "OUT_OF_RANGE": vaeserve.InvalidInput,
    "PERMISSION_DENIED": vaeserve.AccessDenied,
    "RESOURCE_EXHAUSTED": vaeserve.ResourceExhausted,
    "UNAUTHENTICATED": vaeserve.AccessDenied,
    "UNAVAILABLE": vaeserve.Unavailable,
    "UNIMPLEMENTED": vaeserve.Unsupported,
    "UNKNOWN": vaeserve.InternalError,
}

REASONS = {
    "MALFORMED_MESSAGE": ("INVALID_ARGUMENT", vaeserve.InvalidInput),
    "INVALID_TENSOR": ("INVALID_ARGUMENT", vaeserve.InvalidInput),
    "NOT_FINITE": ("INVALID_ARGUMENT", vaeserve.InvalidInput),
    "INVALID_OPTION": ("INVALID_ARGUMENT", vaeserve.InvalidInput),
    "TOO_MANY_ROWS": ("OUT_OF_RANGE", vaeserve.TooManyRows),
    "TOKEN_MISSING": ("UNAUTHENTICATED", vaeserve.AccessDenied),
    "TOKEN_INVALID": ("UNAUTHENTICATED", vaeserve.AccessDenied),
    "MODEL_NOT_FOUND": ("NOT_FOUND", vaeserve.NotFound),
    "VERSION_NOT_FOUND": ("NOT_FOUND", vaeserve.NotFound),
    "LATENT_SPACE_MISMATCH": ("FAILED_PRECONDITION", vaeserve.LatentSpaceMismatch),
    "NOT_ENABLED": ("UNIMPLEMENTED", vaeserve.Unsupported),
    "QUEUE_FULL": ("RESOURCE_EXHAUSTED", vaeserve.Overloaded),
    "OUT_OF_MEMORY": ("RESOURCE_EXHAUSTED", vaeserve.OutOfMemory),
    "QUEUE_WAIT": ("DEADLINE_EXCEEDED", vaeserve.DeadlineExceeded),
    "EXPIRED": ("DEADLINE_EXCEEDED", vaeserve.DeadlineExceeded),
    "LOADING": ("UNAVAILABLE", vaeserve.Unavailable),
    "DRAINING": ("UNAVAILABLE", vaeserve.Unavailable),
    "CANCELLED": ("CANCELLED", vaeserve.Cancelled),
    "INTERNAL": ("INTERNAL", vaeserve.InternalError),
}


def failed(client: Client, script: Script, failure: Failure) -> VaeserveError:
    script.failures.extend([failure] * 4)  # more than the channel's retries of UNAVAILABLE
    with pytest.raises(VaeserveError) as caught:
        client.model("digits").sample(1)
    script.failures.clear()
    return caught.value


@pytest.mark.parametrize("code", STATUSES, ids=lambda code: code.name)
def test_every_status_has_its_class(client: Client, script: Script, code: grpc.StatusCode) -> None:
    error = failed(client, script, Failure(code))
    assert type(error) is EXPECTED[code.name]
    assert (error.code, error.reason, error.details) == (code.name, "", "as scripted")
    assert isinstance(error.__cause__, grpc.RpcError)


@pytest.mark.parametrize("code", STATUSES, ids=lambda code: code.name)
def test_only_a_server_that_is_not_there_is_asked_again(
    client: Client, script: Script, code: grpc.StatusCode
) -> None:
    script.failures.append(Failure(code))
    again = code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    if again:
        client.model("digits").sample(1)
    else:
        with pytest.raises(VaeserveError):
            client.model("digits").sample(1)
    assert len(script.sent(pb.SampleRequest)) == 1 + again


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_has_its_class(client: Client, script: Script, reason: str) -> None:
    code, cls = REASONS[reason]
    error = failed(client, script, Failure(grpc.StatusCode[code], reason))
    assert type(error) is cls
    assert (error.code, error.reason) == (code, reason)
    assert str(error) == f"{reason}: as scripted"


def test_violations_and_delay_are_kept(client: Client, script: Script) -> None:
    failure = Failure(
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_OPTION",
        retry_after=0.25,
        violations=(("temperature", "12 is outside 0..10"),),
    )
    error = failed(client, script, failure)
    assert error.field_violations == (
        vaeserve.FieldViolation("temperature", "12 is outside 0..10"),
    )
    assert error.retry_after == 0.25


def test_the_tree_is_drawn_and_public() -> None:
    classes = {
        cls
        for _, cls in inspect.getmembers(_errors, inspect.isclass)
        if issubclass(cls, VaeserveError)
    }
    assert _errors.__doc__ is not None
    for cls in classes:
        assert cls.__name__ in _errors.__doc__
        assert getattr(vaeserve, cls.__name__) is cls
    assert set(REASONS) == set(_errors._BY_REASON)


@pytest.mark.parametrize(
    ("cls", "base"),
    [
        (vaeserve.InvalidInput, ValueError),
        (vaeserve.NotFound, LookupError),
        (vaeserve.DeadlineExceeded, TimeoutError),
        (vaeserve.Unavailable, ConnectionError),
        (vaeserve.AccessDenied, PermissionError),
        (vaeserve.ClientClosed, RuntimeError),
    ],
)
def test_builtin_families(cls: type[VaeserveError], base: type[Exception]) -> None:
    assert issubclass(cls, base)
    assert str(cls("text", reason="WORD")) == "WORD: text"


class Damaged(grpc.RpcError):
    """An error whose first detail cannot be read, and whose second can."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return "x"

    def trailing_metadata(self) -> Any:
        bad = any_pb2.Any(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff" * 3)
        good = any_pb2.Any()
        good.Pack(error_details_pb2.ErrorInfo(reason="LOADING", domain="vaeserve"))
        code = self.code().value[0]
        status = status_pb2.Status(code=code, message="x", details=[bad, good])
        return (("grpc-status-details-bin", status.SerializeToString()),)


def test_a_damaged_detail_is_passed_over() -> None:
    error = _errors.from_rpc_error(Damaged(), "here")
    assert (type(error), error.reason) == (vaeserve.Unavailable, "LOADING")
