"""Calls as bytes, and everything that their end tells."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any, cast

import grpc
import numpy as np
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from support.servers import series
from vaeserve.v1 import vae_service_pb2 as pb
from vaeserve.v1.arrays import to_tensor
from vaeserve.v1.tensor_pb2 import Tensor
from vaeserve_server.app import App

VAE = "/vaeserve.v1.VaeService"
MODELS = "/vaeserve.v1.ModelService"
OIP = "/inference.GRPCInferenceService"

ENCODE = f"{VAE}/Encode"
ROWS = np.random.default_rng(0).random((2, 1, 8, 8), np.float32)
REQUEST = pb.EncodeRequest(model="digits", input=to_tensor(ROWS)).SerializeToString()
"""For ENCODE: two rows of `digits`."""


def padded(size: int, request: bytes = REQUEST) -> bytes:
    """A request with an array of so many bytes before its own, which the later one replaces."""
    return pb.EncodeRequest(input=Tensor(data=bytes(size))).SerializeToString() + request


_RICH = "grpc-status-details-bin"
_DETAILS: tuple[type[Message], ...] = (
    error_details_pb2.ErrorInfo,
    error_details_pb2.BadRequest,
    error_details_pb2.RetryInfo,
)
_NO_LIMITS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
_SETTLES_WITHIN_S = 20


@dataclass(frozen=True)
class Ending:
    """How a call ended.

    Attributes:
        code: its status.
        text: the message of its status.
        details: of the rich status, in order.
        trailers: the other trailing metadata.
        reply: the bytes of the answer; None of an error.
    """

    code: grpc.StatusCode
    text: str
    details: tuple[Message, ...]
    trailers: dict[str, str | bytes]
    reply: bytes | None = None

    @property
    def reason(self) -> str | None:
        """ErrorInfo.reason, if there is one."""
        return next((str(info.reason) for info in self._of(error_details_pb2.ErrorInfo)), None)

    @property
    def retry_after_ms(self) -> int | None:
        """RetryInfo's delay, if there is one."""
        retries = self._of(error_details_pb2.RetryInfo)
        return next((retry.retry_delay.ToMilliseconds() for retry in retries), None)

    def _of(self, kind: type[Message]) -> list[Any]:
        return [detail for detail in self.details if isinstance(detail, kind)]


@contextmanager
def channel_to(app: App, *options: tuple[str, Any]) -> Iterator[grpc.Channel]:
    """A connection of its own that limits nothing."""
    # Channels with equal options share connections.
    own = ("grpc.use_local_subchannel_pool", 1)
    address = f"127.0.0.1:{app.port}"
    with grpc.insecure_channel(address, [*_NO_LIMITS, own, *options]) as channel:
        yield channel


def begin(channel: grpc.Channel, path: str, data: bytes, **options: Any) -> Any:
    """Make a unary call of bytes; a future."""
    call: Any = channel.unary_unary(path)
    return call.future(data, **{"timeout": 60, **options})


def begin_open(channel: grpc.Channel, path: str, messages: Iterator[bytes], **options: Any) -> Any:
    """Make a call that sends any number of messages; a future of its one answer."""
    call: Any = channel.stream_unary(path)
    return call.future(messages, **{"timeout": 60, **options})


def ending(channel: grpc.Channel, path: str, data: bytes, **options: Any) -> Ending:
    """Make a unary call of bytes and wait for its end."""
    return ending_of(begin(channel, path, data, **options))


def ending_of(call: Any) -> Ending:
    """Wait for the end of a call."""
    try:
        reply = call.result()
    except grpc.RpcError:
        reply = None
    except grpc.FutureCancelledError:
        return Ending(grpc.StatusCode.CANCELLED, "", (), {})
    trailers: dict[str, str | bytes] = dict(call.trailing_metadata() or ())
    rich = cast("bytes | None", trailers.pop(_RICH, None))
    return Ending(call.code(), call.details(), _unpacked(rich) if rich else (), trailers, reply)


def _unpacked(rich: bytes) -> tuple[Message, ...]:
    found = []
    for packed in status_pb2.Status.FromString(rich).details:
        (kind,) = (kind for kind in _DETAILS if packed.Is(kind.DESCRIPTOR))
        detail = kind()
        packed.Unpack(detail)
        found.append(detail)
    return tuple(found)


class Counts:
    """What one method's series have counted since this was made."""

    def __init__(self, app: App, path: str = ENCODE) -> None:
        self._app = app
        _, service, self._method = path.split("/")
        self._mark = f'grpc_method="{self._method}",grpc_service="{service}"'
        self._before = self._all()

    def __call__(self) -> dict[str, float]:
        """By the short name of the series, or by the status code; only what has changed."""
        now = self._all()
        return {name: now[name] - was for name, was in self._before.items() if now[name] != was}

    def open_calls(self) -> float:
        """Calls begun since this was made, less those that have ended."""
        now = self()
        ended = sum(now.get(code.name, 0) for code in grpc.StatusCode)
        return now.get("started", 0) - ended

    def settle(self, **expected: float) -> None:
        """Wait until exactly so much has been counted, and nobody is in flight any more."""
        until(lambda: (self(), self.unanswered()), (expected, 0))

    def settle_somehow(self) -> None:
        """Wait until every call has been counted as something, and nobody is in flight any more."""
        until(lambda: (self.open_calls(), self.unanswered()), (0, 0))

    def unanswered(self) -> float:
        """The gauges of requests and rows, which must return to 0."""
        gauges = ("vaeserve_in_flight", "vaeserve_queue_rows")
        return sum(value for name, value in series(self._app).items() if name.startswith(gauges))

    def _all(self) -> dict[str, float]:
        found = {}
        for name, value in series(self._app).items():
            if name.startswith("grpc_server_") and self._mark in name:
                short = name.split("{")[0].removeprefix("grpc_server_")
                if short == "handled_total":
                    found[name.split('grpc_code="')[1].split('"')[0]] = value
                elif short.endswith("_total"):
                    found[short.removesuffix("_total").removeprefix("msg_")] = value
        return found


def until(value: Callable[[], object], expected: object) -> None:
    """Poll until something has a value."""
    end = monotonic() + _SETTLES_WITHIN_S
    while (now := value()) != expected:
        assert monotonic() < end, f"{now}, not {expected}"
        sleep(0.01)
