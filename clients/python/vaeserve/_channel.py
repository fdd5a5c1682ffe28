"""Channel settings, the same for both clients, and deadlines.

Several replicas are used when the target's name has several addresses (`dns:///name:port`, as of a
headless Kubernetes service): each call goes to the next one. Client-side health checking is left
out on purpose. With it, a server that is still loading or already draining fails every call on the
channel inside the client, the catalogue included, and its own answer, which says why and when to
come back, is never seen. A call that meets such a replica ends with UNAVAILABLE and is repeated on
the next one.
"""

import json
import time

import grpc
from grpc import aio

from vaeserve._errors import InvalidInput

MAX_MESSAGE_BYTES = 64 << 20
"""Largest message in either direction; the server's own default."""

DEFAULT_TIMEOUT = 30.0
"""Seconds a call may take, all its parts and retries included."""

DEFAULT_RETRIES = 3
"""How often a call that found no server, or a stopping one, is repeated."""

_PACKAGE_SERVICES = ("vaeserve.v1.VaeService", "vaeserve.v1.ModelService")
_LONGEST_TIMEOUT = 4e6  # what gRPC and every platform's locks can wait for
_MOST_ATTEMPTS = 5  # gRPC core's own ceiling


def open_channel(
    target: str, retries: int, credentials: grpc.ChannelCredentials | None
) -> grpc.Channel:
    """Make a channel for blocking calls; it connects with the first one.

    Raises:
        InvalidInput: a target without a port.
    """
    _check_target(target)
    options = _options(retries)
    if credentials is None:
        return grpc.insecure_channel(target, options)
    return grpc.secure_channel(target, credentials, options)


def open_async_channel(
    target: str, retries: int, credentials: grpc.ChannelCredentials | None
) -> aio.Channel:
    """As `open_channel`, for the running event loop."""
    _check_target(target)
    options = _options(retries)
    if credentials is None:
        return aio.insecure_channel(target, options)
    return aio.secure_channel(target, credentials, options)


def deadline_after(seconds: float) -> float:
    """Moment on the monotonic clock; a very long time, infinity included, is cut to 46 days.

    Raises:
        InvalidInput: seconds below 0, or NaN.
    """
    if not seconds >= 0:
        raise InvalidInput(f"timeout must be at least 0 seconds, got {seconds}")
    return time.monotonic() + min(seconds, _LONGEST_TIMEOUT)


def remaining(deadline: float) -> float:
    """Seconds from now to a moment of `deadline_after`, at least 0."""
    return max(0.0, deadline - time.monotonic())


def _check_target(target: str) -> None:
    # gRPC would take port 443.
    if ":" not in target.rpartition("/")[2].rpartition("]")[2]:
        raise InvalidInput(f"{target!r} names no port; give host:port")


def _options(retries: int) -> list[tuple[str, int | str]]:
    return [
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        # Without room to keep a request it is not repeated; the default is 256 KiB.
        ("grpc.per_rpc_retry_buffer_size", MAX_MESSAGE_BYTES),
        # A server that comes back is found within seconds, not after the default's two minutes.
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # A peer that vanished without a word is noticed within 40 s while a call is open. No pings
        # on an idle connection: servers with default settings answer those by closing it.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.service_config", json.dumps(_service_config(retries))),
    ]


def _service_config(retries: int) -> dict[str, object]:
    """Round robin over replicas, and calls repeated that found no server or a stopping one.

    gRPC's own server cancels calls that reach it while it stops, hence CANCELLED; a call that is
    cancelled on this side is not repeated.
    The core honours the server's `grpc-retry-pushback-ms` here. Every call is free of side effects,
    so repeating one is safe.
    """
    config: dict[str, object] = {"loadBalancingConfig": [{"round_robin": {}}]}
    if retries > 0:
        config["methodConfig"] = [
            {
                "name": [{"service": service} for service in _PACKAGE_SERVICES],
                "retryPolicy": {
                    "maxAttempts": min(retries + 1, _MOST_ATTEMPTS),
                    "initialBackoff": "0.1s",
                    "maxBackoff": "2s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
                },
            }
        ]
    return config
