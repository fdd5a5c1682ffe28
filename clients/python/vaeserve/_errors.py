"""Everything that can go wrong with a call, as one tree.

    VaeserveError
    ├── InvalidInput (ValueError)        the input does not fit; found here or by the server
    │   └── TooManyRows                  more rows than the server takes in one request
    ├── NotFound (LookupError)           no such model or version
    ├── FailedPrecondition               sound in itself, but not for this model
    │   ├── LatentSpaceMismatch          latents of another model
    │   └── Unsupported                  the model, or the server, cannot do this
    ├── ResourceExhausted
    │   ├── Overloaded                   the queue is full; `retry_after` says when to come back
    │   └── OutOfMemory                  the device could not allocate
    ├── DeadlineExceeded (TimeoutError)  no answer in time, or refused because there would be none
    ├── Unavailable (ConnectionError)    no server there, or it is loading or draining
    ├── AccessDenied (PermissionError)   not authenticated, or not allowed
    ├── Cancelled                        the call was cancelled
    ├── VersionChanged                   the served version changed amid a split call
    ├── InternalError                    a fault of the server; its log has the id in the text
    └── ClientClosed (RuntimeError)      the client was closed before the call

The class is chosen by the machine-readable reason that the server sends (google.rpc.ErrorInfo),
never by text; where there is none (an error of gRPC itself, or a proxy on the way) the status code
decides.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

_DOMAIN = "vaeserve"
_RETRY_SPREAD = 0.25


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """What is wrong with one field of the request.

    Attributes:
        field: path of the field, as in the wire contract.
        description: what is wrong with it.
    """

    field: str
    description: str


class VaeserveError(Exception):
    """Base of all errors of this package.

    Attributes:
        code: name of the gRPC status, such as "NOT_FOUND".
        reason: the server's stable word for the cause, such as "MODEL_NOT_FOUND"; empty when it
            gave none.
        details: the text without code and reason.
        field_violations: which fields are at fault, for an invalid request.
        retry_after: seconds to wait before trying again, where the server said so.
    """

    code = "UNKNOWN"

    def __init__(
        self,
        details: str,
        *,
        code: str | None = None,
        reason: str = "",
        field_violations: Sequence[FieldViolation] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(details)
        self.code = code or self.code
        self.reason = reason
        self.details = details
        self.field_violations = tuple(field_violations)
        self.retry_after = retry_after

    def __str__(self) -> str:
        """Reason or code first, so that a log line can be searched."""
        return f"{self.reason or self.code}: {self.details}"


class InvalidInput(VaeserveError, ValueError):
    """The input does not fit the model or the call: shape, dtype, NaN, an option out of range."""

    code = "INVALID_ARGUMENT"

    def __str__(self) -> str:
        """The text alone where this client found the mistake itself."""
        return super().__str__() if self.reason else self.details


class TooManyRows(InvalidInput):
    """More rows than the server takes in one request.

    Calls are split to fit, and once more by the new limit where it changed meanwhile; so this means
    that replicas differ in theirs.
    """

    code = "OUT_OF_RANGE"


class NotFound(VaeserveError, LookupError):
    """The server has no such model or version, or the model no such attribute."""

    code = "NOT_FOUND"


class FailedPrecondition(VaeserveError):
    """A sound request that this model cannot serve."""

    code = "FAILED_PRECONDITION"


class LatentSpaceMismatch(FailedPrecondition):
    """The latents belong to another latent space, where the same numbers mean something else."""


class Unsupported(FailedPrecondition):
    """The model, or the server at this address, does not have this operation."""


class ResourceExhausted(VaeserveError):
    """The server, or a limit on the way to it, has no room for the request."""

    code = "RESOURCE_EXHAUSTED"


class Overloaded(ResourceExhausted):
    """The queue stayed full for as long as the client tried; `retry_after` is in seconds."""


class OutOfMemory(ResourceExhausted):
    """The server's device could not allocate, not even for a part of the batch."""


class DeadlineExceeded(VaeserveError, TimeoutError):
    """No answer within the timeout, or refused at once because none was possible in time."""

    code = "DEADLINE_EXCEEDED"


class Unavailable(VaeserveError, ConnectionError):
    """No server answers at the address, or it is loading or shutting down."""

    code = "UNAVAILABLE"


class AccessDenied(VaeserveError, PermissionError):
    """The caller is not authenticated or not allowed to do this."""

    code = "PERMISSION_DENIED"


class Cancelled(VaeserveError):
    """The server says that the call was cancelled.

    Where this client was closed meanwhile, `ClientClosed` is raised.
    """

    code = "CANCELLED"


class VersionChanged(VaeserveError):
    """Different versions answered the parts of a split call; call again for a whole answer."""

    code = "ABORTED"


class InternalError(VaeserveError):
    """A fault of the server."""

    code = "INTERNAL"


class ClientClosed(VaeserveError, RuntimeError):
    """The client was closed; make a new one."""

    code = "CANCELLED"


_BY_REASON: dict[str, type[VaeserveError]] = {
    "MALFORMED_MESSAGE": InvalidInput,
    "INVALID_TENSOR": InvalidInput,
    "NOT_FINITE": InvalidInput,
    "INVALID_OPTION": InvalidInput,
    "TOO_MANY_ROWS": TooManyRows,
    "TOKEN_MISSING": AccessDenied,
    "TOKEN_INVALID": AccessDenied,
    "MODEL_NOT_FOUND": NotFound,
    "VERSION_NOT_FOUND": NotFound,
    "LATENT_SPACE_MISMATCH": LatentSpaceMismatch,
    "NOT_ENABLED": Unsupported,
    "QUEUE_FULL": Overloaded,
    "OUT_OF_MEMORY": OutOfMemory,
    "QUEUE_WAIT": DeadlineExceeded,
    "EXPIRED": DeadlineExceeded,
    "LOADING": Unavailable,
    "DRAINING": Unavailable,
    "CANCELLED": Cancelled,
    "INTERNAL": InternalError,
}

_BY_CODE: dict[grpc.StatusCode, type[VaeserveError]] = {
    # Without a reason it was not asked for: a stopping server cancels what reaches it too late.
    grpc.StatusCode.CANCELLED: Unavailable,
    grpc.StatusCode.UNKNOWN: InternalError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInput,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.PERMISSION_DENIED: AccessDenied,
    grpc.StatusCode.UNAUTHENTICATED: AccessDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.OUT_OF_RANGE: InvalidInput,
    grpc.StatusCode.UNIMPLEMENTED: Unsupported,
    grpc.StatusCode.INTERNAL: InternalError,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DATA_LOSS: InternalError,
}


def from_rpc_error(error: grpc.RpcError, target: str) -> VaeserveError:
    """Turn gRPC's error into ours; raise the result `from` it.

    Args:
        error: what a blocking or an asyncio call raised.
        target: where the call went.
    """
    info = error_details_pb2.ErrorInfo()
    request = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    found = _unpack(error, (info, request, retry))
    reason = info.reason if info.domain == _DOMAIN else ""
    cls = _BY_REASON.get(reason) or _BY_CODE.get(error.code(), VaeserveError)
    details = error.details() or "the server gave no text"
    if error.code() is grpc.StatusCode.UNAVAILABLE and not reason and "onnect" in details:
        details = f"no server answers at {target}: {details}"
    if details == "Deadline Exceeded":  # gRPC's own, which says no more than the code
        details = f"no answer from {target} within the timeout"
    return cls(
        details,
        code=error.code().name,
        reason=reason,
        field_violations=[FieldViolation(v.field, v.description) for v in request.field_violations],
        retry_after=retry.retry_delay.ToNanoseconds() / 1e9 if retry in found else None,
    )


def retry_delay(error: VaeserveError, remaining: float) -> float | None:
    """How long to wait before the call is repeated; None when it must not be.

    Only a full queue is waited for here, for as long as the deadline allows: it is the one refusal
    that comes with a time to return. A server that cannot be reached is retried by the channel, and
    nothing else is worth repeating.

    Args:
        error: what the call ended with.
        remaining: seconds to the deadline.

    Returns:
        Seconds, never less than the server asked for, and up to a quarter more so that callers
        refused together do not come back together.
    """
    if not isinstance(error, Overloaded) or error.retry_after is None:
        return None
    delay = error.retry_after * (1 + _RETRY_SPREAD * random.random())  # noqa: S311  not a secret
    return delay if delay < remaining else None


def _unpack(error: grpc.RpcError, messages: Sequence[Message]) -> list[Message]:
    """Fill the messages that the error carries, and say which ones those are."""
    try:
        # Both error classes carry what a call does; their annotations do not say so.
        status = rpc_status.from_call(cast(grpc.Call, error))
    except (ValueError, DecodeError):  # a proxy rewrote the status, or the details are damaged
        status = None
    details = status.details if status else ()
    return [message for message in messages if any(_fills(detail, message) for detail in details)]


def _fills(detail: Any, message: Message) -> bool:
    """Read a packed detail; False for one of another type, and for a damaged one."""
    try:
        return bool(detail.Unpack(message))
    except DecodeError:
        message.Clear()
        return False
