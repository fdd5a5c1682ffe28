"""Client of a vaeserve server: a variational autoencoder's calls, numpy in and numpy out.

    from vaeserve import Client

    with Client("127.0.0.1:50051") as client:
        digits = client.model("digits")
        posterior = digits.encode(x)
        pictures = digits.decode(posterior.sample(seed=7))

`Client` blocks and `AsyncClient` awaits, `info()` and `aclose()` too; they are otherwise the same.
All errors are under `VaeserveError`.
"""

from vaeserve._async_client import AsyncClient
from vaeserve._async_model import AsyncModel
from vaeserve._client import Client
from vaeserve._columns import Column
from vaeserve._device_numerics import DeviceNumerics
from vaeserve._errors import (
    AccessDenied,
    Cancelled,
    ClientClosed,
    DeadlineExceeded,
    FailedPrecondition,
    FieldViolation,
    InternalError,
    InvalidInput,
    LatentSpaceMismatch,
    NotFound,
    OutOfMemory,
    Overloaded,
    ResourceExhausted,
    TooManyRows,
    Unavailable,
    Unsupported,
    VaeserveError,
    VersionChanged,
)
from vaeserve._info import (
    Attribute,
    FittedPrior,
    LatentStatistics,
    Limits,
    ModelInfo,
    ModelState,
    Preprocessing,
)
from vaeserve._latency import BatchTime, Latency, timed
from vaeserve._latents import Latents
from vaeserve._model import Model
from vaeserve._results import Generated, Posterior, Score
from vaeserve._security import Tls
from vaeserve._version import __version__

__all__ = [
    "AccessDenied",
    "AsyncClient",
    "AsyncModel",
    "Attribute",
    "BatchTime",
    "Cancelled",
    "Client",
    "ClientClosed",
    "Column",
    "DeadlineExceeded",
    "DeviceNumerics",
    "FailedPrecondition",
    "FieldViolation",
    "FittedPrior",
    "Generated",
    "InternalError",
    "InvalidInput",
    "Latency",
    "LatentSpaceMismatch",
    "LatentStatistics",
    "Latents",
    "Limits",
    "Model",
    "ModelInfo",
    "ModelState",
    "NotFound",
    "OutOfMemory",
    "Overloaded",
    "Posterior",
    "Preprocessing",
    "ResourceExhausted",
    "Score",
    "Tls",
    "TooManyRows",
    "Unavailable",
    "Unsupported",
    "VaeserveError",
    "VersionChanged",
    "__version__",
    "timed",
]
