"""Channel settings, the same for both clients, and deadlines.

Several replicas are used when the target's name has several addresses (as of a headless Kubernetes
service): each call goes to the next one. A client has two channels to them, which share their
connections:

*   the *checked* one asks each replica's health service and leaves those out that are loading,
    draining or incomplete; a replica that is about to stop loses its callers before it refuses
    one;
*   the *plain* one takes them all. On it goes what asks for the catalogue, and whatever the checked
    one did not get through: then no replica is ready, or one has just gone. With health checks
    alone a server that is still loading, or of whose models one is broken, would fail every call
    inside the client, and its own answer, which says why and when to come back, or serves a sound
    model, would never be seen.
"""

import json
import re
import time

import grpc
from grpc import aio

from vaeserve._errors import DeadlineExceeded, InvalidInput

MAX_MESSAGE_BYTES = 64 << 20
"""Largest message in either direction; the server's own default."""

DEFAULT_TIMEOUT = 30.0
"""Seconds a call may take, all its parts and retries included."""

DEFAULT_RETRIES = 3
"""How often a call that found no server, or a stopping one, is repeated."""

LOOK_TIMEOUT = 1.0
"""Seconds, at most, to find out whether a model has changed, while a refusal waits to be told."""

_VAE_SERVICE = "vaeserve.v1.VaeService"
_MODEL_SERVICE = "vaeserve.v1.ModelService"

ServiceConfig = dict[str, object]

_LONGEST_TIMEOUT = 4e6  # what gRPC and every platform's locks can wait for
_MOST_ATTEMPTS = 5  # gRPC core's own ceiling

# Names of gRPC's other kinds, as unix:/run/x.sock and xds:///x; not HOST:PORT.
_WITHOUT_PORT = re.compile(r"(?!dns:)[a-z][a-z0-9+.-]*:(?!\d*$)")


def open_channel(
    target: str, config: ServiceConfig, credentials: grpc.ChannelCredentials | None
) -> grpc.Channel:
    """Make a channel for blocking calls; it connects with the first one.

    Raises:
        InvalidInput: a target that needs a port and has none.
    """
    _check_target(target)
    options = _options(config)
    if credentials is None:
        return grpc.insecure_channel(target, options)
    return grpc.secure_channel(target, credentials, options)


def open_async_channel(
    target: str, config: ServiceConfig, credentials: grpc.ChannelCredentials | None
) -> aio.Channel:
    """As `open_channel`, for the running event loop."""
    _check_target(target)
    options = _options(config)
    if credentials is None:
        return aio.insecure_channel(target, options)
    return aio.secure_channel(target, credentials, options)


def deadline_after(usual: float, seconds: float | None) -> float:
    """Moment on the monotonic clock; a very long time, infinity included, is cut to 46 days.

    Args:
        usual: seconds of a call that names none.
        seconds: of this call, or None.

    Raises:
        InvalidInput: no number, one below 0, or NaN.
    """
    if seconds is None:
        seconds = usual
    try:
        if seconds >= 0:
            return time.monotonic() + min(seconds, _LONGEST_TIMEOUT)
    except TypeError:
        pass
    raise InvalidInput(
        f'timeout must be a number of seconds, at least 0, or float("inf") for no limit; '
        f"got {seconds!r}"
    )


def checked_retries(retries: int) -> int:
    """How often a call may be repeated.

    Raises:
        InvalidInput: below 0, or more than gRPC repeats a call.
    """
    if retries not in range(_MOST_ATTEMPTS):
        raise InvalidInput(
            f"retries must be 0 .. {_MOST_ATTEMPTS - 1}, for gRPC tries a call {_MOST_ATTEMPTS} "
            f"times at most; got {retries!r}"
        )
    return int(retries)


def remaining(deadline: float) -> float:
    """Seconds from now to a moment of `deadline_after`, at least 0."""
    return max(0.0, deadline - time.monotonic())


def time_left(deadline: float) -> float:
    """As `remaining`, for a request that is to be sent.

    Raises:
        DeadlineExceeded: there is none left.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise DeadlineExceeded("the timeout passed before the request was sent")
    return left


def _check_target(target: str) -> None:
    scheme, found, _ = target.partition("://")
    if found and scheme in {"http", "https", "grpc", "grpcs"}:
        raise InvalidInput(
            f"{target!r} begins with {scheme}://, which gRPC does not know; give host:port"
        )
    if _WITHOUT_PORT.match(target):
        return
    # gRPC would take port 443.
    if ":" not in target.removeprefix("dns:").rpartition("/")[2].rpartition("]")[2]:
        raise InvalidInput(f"{target!r} names no port; give host:port")


def _options(config: ServiceConfig) -> list[tuple[str, int | str]]:
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
        ("grpc.service_config", json.dumps(config)),
    ]


def checked() -> ServiceConfig:
    """Round robin over the replicas that are ready; nothing is repeated."""
    return {
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": _VAE_SERVICE},
    }


def plain(retries: int) -> ServiceConfig:
    """Round robin over all replicas; calls that found no server or a stopping one are repeated.

    gRPC's own server cancels calls that reach it while it stops, hence CANCELLED; a call that is
    cancelled on this side is not repeated.
    The core honours the server's `grpc-retry-pushback-ms` here. Every call is free of side effects,
    so repeating one is safe.

    Args:
        retries: how often; a call of the VaeService has been tried on the checked channel before,
            so that coming here is the first of them.
    """
    methods = [
        _retried(_VAE_SERVICE, retries),
        _retried(_MODEL_SERVICE, retries + 1),
    ]
    return {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [method for method in methods if method],
    }


def _retried(service: str, attempts: int) -> ServiceConfig:
    if attempts < 2:  # which gRPC takes for a mistake
        return {}
    return {
        "name": [{"service": service}],
        "retryPolicy": {
            "maxAttempts": attempts,
            "initialBackoff": "0.1s",
            "maxBackoff": "2s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
        },
    }
