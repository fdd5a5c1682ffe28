"""The one table from errors to gRPC statuses, with the details that clients switch on."""

import logging
import secrets
from dataclasses import dataclass

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from vaeserve_server import errors

DOMAIN = "vaeserve"

# Trailers over 8 KB may be dropped on the way. The message travels up to three times: in
# grpc-message, percent-encoded, which triples what is not ASCII, and in two of the details.
_MAX_MESSAGE_BYTES = 700

_CODES: dict[type[errors.ServiceError], grpc.StatusCode] = {
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.TooManyRows: grpc.StatusCode.OUT_OF_RANGE,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.NotFitted: grpc.StatusCode.FAILED_PRECONDITION,
    errors.LatentSpaceMismatch: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Unsupported: grpc.StatusCode.UNIMPLEMENTED,
    errors.Cancelled: grpc.StatusCode.CANCELLED,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.OutOfMemory: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RpcStatus(grpc.Status):
    """A status as grpcio sends it.

    Attributes:
        code: status code.
        details: message for people, at most 700 bytes.
        trailing_metadata: rich details, and when to come back.
    """

    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...]


ONE_MESSAGE = RpcStatus(grpc.StatusCode.UNIMPLEMENTED, "the method takes exactly one message", ())
"""The end of a call that takes one message and has sent none."""


def status_of(error: Exception, path: str) -> RpcStatus:
    """What the caller is told of a failure.

    Args:
        error: a ServiceError, or anything unforeseen: that is logged under an id, and the caller is
            told the id alone.
        path: the method, for the log.
    """
    if not isinstance(error, errors.ServiceError):
        error_id = secrets.token_hex(8)
        _log.error("unforeseen error", exc_info=error, extra={"error_id": error_id, "method": path})
        return _status(
            grpc.StatusCode.INTERNAL, f"internal error {error_id}", "INTERNAL", error_id=error_id
        )
    details: list[error_details_pb2.BadRequest | error_details_pb2.RetryInfo] = []
    pushback: tuple[tuple[str, str | bytes], ...] = ()
    if error.field is not None:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=_short(str(error))
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if error.retry_after_s is not None:
        milliseconds = max(1, round(error.retry_after_s * 1000))
        delay = Duration()
        delay.FromMilliseconds(milliseconds)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        pushback = (("grpc-retry-pushback-ms", str(milliseconds)),)
    return _status(_CODES[type(error)], str(error), error.reason, *details, pushback=pushback)


def _status(
    code: grpc.StatusCode,
    message: str,
    reason: str,
    *details: error_details_pb2.BadRequest | error_details_pb2.RetryInfo,
    pushback: tuple[tuple[str, str | bytes], ...] = (),
    **metadata: str,
) -> RpcStatus:
    rich = status_pb2.Status(code=code.value[0], message=_short(message))
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)
    for detail in (info, *details):
        rich.details.add().Pack(detail)
    trailers = (("grpc-status-details-bin", rich.SerializeToString()), *pushback)
    return RpcStatus(code, rich.message, trailers)


def _short(message: str) -> str:
    return message.encode()[:_MAX_MESSAGE_BYTES].decode(errors="ignore")
