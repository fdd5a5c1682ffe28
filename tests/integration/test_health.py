"""Health while its callers come and go, do not read, or never say what they ask for."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench.http2 import HEADERS, framed
from support.health import health_of
from support.raw_http2 import headers, wait_until_read, wire_to
from support.servers import make_app, running_app
from vaeserve import Client
from vaeserve_server.app import App

VAE = "vaeserve.v1.VaeService"
CHECK = b"/grpc.health.v1.Health/Check"
WATCH = b"/grpc.health.v1.Health/Watch"

# On the standard transport whoever is waited for holds one of so many threads.
SENDERS = 32
DEAF = range(1, 2 * 40, 2)
HALF_OPEN = range(1, 2 * 80, 2)

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


@contextmanager
def watching(app: App, service: str) -> Iterator[Any]:
    """The states that a watcher with a connection of its own is told."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    with grpc.insecure_channel(f"127.0.0.1:{app.port}", options) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=30)
        yield (reply.status for reply in watch)
        watch.cancel()


def test_watchers_who_come_and_go_stop_nobody(own_repository: Path) -> None:
    """With grpcio-health-checking's servicer the first few stop health and reflection for good."""
    with running_app(own_repository) as app:

        def come_and_go(_: int) -> set[int]:
            seen = set()
            for _ in range(25):
                with watching(app, VAE) as states:
                    seen.add(next(states))
            return seen

        with ThreadPoolExecutor(8) as pool:
            assert set().union(*pool.map(come_and_go, range(8))) == {SERVING}
        assert health_of(f"127.0.0.1:{app.port}", VAE) == SERVING


def test_a_watcher_of_nothing_is_told_so(address: str, app: App) -> None:
    with watching(app, "nobody") as states:
        assert next(states) == UNKNOWN


def test_every_watcher_is_told_of_the_drain_and_does_not_hold_it(own_repository: Path) -> None:
    app = make_app(own_repository, drain_delay_s=1, grace_s=60)
    app.start()
    with watching(app, "models/digits") as states, watching(app, "") as lives:
        assert (next(states), next(lives)) == (SERVING, SERVING)
        draining = threading.Thread(target=app.drain)
        draining.start()
        assert next(states) == NOT_SERVING
        for told in (states, lives):  # "" was never said not to live
            with pytest.raises(grpc.RpcError, match="the server is shutting down") as raised:
                next(told)
            assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        draining.join(30)
        assert not draining.is_alive()


def test_watchers_who_do_not_read_keep_nothing_from_others(
    own_repository: Path, transport: str
) -> None:
    app = make_app(own_repository, transport=transport, drain_delay_s=8, grace_s=1)
    app.start()
    request = framed(health_pb2.HealthCheckRequest(service=VAE).SerializeToString())
    with wire_to(app) as deaf, watching(app, VAE) as early, watching(app, VAE) as states:
        assert next(early) == SERVING
        deaf.open(window=0)
        for stream in DEAF:
            deaf.call(stream, headers(path=WATCH))
            deaf.data(stream, request)
        # The headers alone need no window: the first state is on its way, and stays there.
        waiting = set(DEAF[:SENDERS])
        for kind, _, of, _ in deaf.frames():
            if kind == HEADERS:
                waiting.discard(of)
            if not waiting:
                break
        assert next(states) == SERVING
        draining = threading.Thread(target=app.drain)
        draining.start()
        assert next(states) == NOT_SERVING
        assert next(early) == NOT_SERVING
        assert health_of(f"127.0.0.1:{app.port}", VAE) == NOT_SERVING
        draining.join(30)
        assert not draining.is_alive()


@pytest.mark.parametrize("path", [CHECK, WATCH])
def test_calls_that_never_send_their_message_keep_nothing_from_others(
    own_repository: Path, transport: str, path: bytes
) -> None:
    with running_app(own_repository, transport=transport) as app, wire_to(app) as half:
        half.open()
        for stream in HALF_OPEN:
            half.call(stream, headers(path=path))
        wait_until_read(half)
        assert health_of(f"127.0.0.1:{app.port}", VAE) == SERVING
        with watching(app, VAE) as states:
            assert next(states) == SERVING


def test_watching_without_a_message(own_repository: Path, transport: str) -> None:
    with running_app(own_repository, transport=transport) as app:
        for data, code in ((b"", "12"), (framed(b"\xff"), "3")):
            with wire_to(app) as wire:
                wire.open().call(1, headers(path=WATCH))
                wire.data(1, data)
                assert wire.status(1) == code


def test_clients_that_come_and_go_leave_the_others_working(own_repository: Path) -> None:
    """The SDK watches health, so each of its connections is a watcher."""
    with running_app(own_repository) as app:

        def call(_: int) -> int:
            for _ in range(10):
                with Client(f"127.0.0.1:{app.port}") as client:
                    client.model("digits").sample(1, seed=1)
            return 10

        with ThreadPoolExecutor(6) as pool:
            assert sum(pool.map(call, range(6))) == 60
