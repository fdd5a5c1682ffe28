"""What can go wrong with a request, without a word about the transport.

`status` maps each class to a gRPC status. Two families: `CallerError` is the caller's to mend, its
message is written for the caller; `ServiceFault` is ours. Clients switch on `reason`, never on the
text. Anything that is no `ServiceError` is unforeseen: the caller sees INTERNAL and an id, the log
has the rest.
"""

_MEMORY_RETRY_S = 1.0
"""By then the batches that hold the memory are done; nothing better is known."""


class ServiceError(Exception):
    """Base of all foreseen failures.

    Attributes:
        reason: stable upper-case word, ErrorInfo.reason on the wire.
        field: path of the request field at fault, or None.
        retry_after_s: seconds after which a retry is worth while, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        field: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.field = field
        self.retry_after_s = retry_after_s


class CallerError(ServiceError):
    """The request cannot be served as it is."""


class ServiceFault(ServiceError):
    """The request is sound; the service cannot serve it now."""


class InvalidArgument(CallerError):
    """INVALID_ARGUMENT: no such message, wrong shape, dtype or byte count, NaN, bad option."""


class TooManyRows(CallerError):
    """OUT_OF_RANGE: more rows, or a larger answer, than the advertised limits."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message, reason="TOO_MANY_ROWS", field=field)


class Unauthenticated(CallerError):
    """UNAUTHENTICATED: no token (TOKEN_MISSING), or none of this server's (TOKEN_INVALID)."""


class NotFound(CallerError):
    """NOT_FOUND: no such model, version or attribute."""


class NotFitted(CallerError):
    """FAILED_PRECONDITION: the model was exported without what the call needs."""


class LatentSpaceMismatch(CallerError):
    """FAILED_PRECONDITION: latents of another model."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="LATENT_SPACE_MISMATCH")


class Unsupported(CallerError):
    """UNIMPLEMENTED: the server was started without it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="NOT_ENABLED")


class Cancelled(CallerError):
    """CANCELLED: the caller went away."""

    def __init__(self) -> None:
        super().__init__("the caller cancelled the request", reason="CANCELLED")


class DeadlineExceeded(ServiceFault):
    """DEADLINE_EXCEEDED: expired while waiting (EXPIRED), or cannot finish in time (QUEUE_WAIT)."""


class Overloaded(ServiceFault):
    """RESOURCE_EXHAUSTED with RetryInfo: the queue is full."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message, reason="QUEUE_FULL", retry_after_s=retry_after_s)


class OutOfMemory(ServiceFault):
    """RESOURCE_EXHAUSTED: the engine could not allocate, not even for half the batch."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="OUT_OF_MEMORY", retry_after_s=_MEMORY_RETRY_S)


class Unavailable(ServiceFault):
    """UNAVAILABLE: loading (LOADING) or shutting down (DRAINING)."""

    @classmethod
    def draining(cls) -> "Unavailable":
        """What a server says that stops."""
        return cls("the server is shutting down", reason="DRAINING")


class StartupError(Exception):
    """The server cannot start; the message says what to do.

    Ends the process, never reaches a caller.
    """
