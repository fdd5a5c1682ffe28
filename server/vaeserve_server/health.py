"""Readiness, as grpc.health.v1 tells it: Check and Watch.

"" says that the process lives. `vaeserve.v1.VaeService` and `inference.GRPCInferenceService` are
SERVING once every model folder of the repository is served, `models/NAME` once that model is. These
go NOT_SERVING when draining, or when a batcher or the lane has died of a bug.

grpcio-health-checking brings the messages. Its servicer is not used: it sends to watchers while it
holds a lock for which gRPC's thread waits whenever a watcher leaves, and only that thread can tell
that something was sent. Two clients, one coming and one going, stop the server for good
(grpc/grpc#43403).
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from vaeserve_server.methods import MODEL_SERVICE, VAE_SERVICE
from vaeserve_server.models import Catalogue
from vaeserve_server.oip import OIP_SERVICE

_SERVING: int = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: int = health_pb2.HealthCheckResponse.NOT_SERVING
_SERVICE_UNKNOWN: int = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

_UNTOLD = -1
_Send = Callable[[health_pb2.HealthCheckResponse | None], None]


class Health(health_pb2_grpc.HealthServicer):
    """The health service and what it says; its lock is never held while anybody waits."""

    def __init__(self, server: grpc.Server, senders: ThreadPoolExecutor) -> None:
        """Add the service; live, not ready.

        Args:
            server: which.
            senders: tell the watchers. Each thread may be held by one who does not read.
        """
        services = (VAE_SERVICE, OIP_SERVICE, MODEL_SERVICE)
        self._states = {"": _SERVING} | dict.fromkeys(services, _NOT_SERVING)
        self._senders = senders
        self._watchers: dict[str, set[_Watcher]] = {}
        self._ended = False
        self._lock = threading.Lock()
        health_pb2_grpc.add_HealthServicer_to_server(self, server)

    def loaded(self, catalogue: Catalogue) -> None:
        """Say what is ready."""
        all_served = _SERVING if catalogue.complete else _NOT_SERVING
        self._set(MODEL_SERVICE, _SERVING)
        self._set(VAE_SERVICE, all_served)
        self._set(OIP_SERVICE, all_served)
        for name in catalogue.models.keys() | catalogue.problems.keys():
            served = name in catalogue.models
            self._set(_model(name), _SERVING if served else _NOT_SERVING)

    def not_ready(self) -> None:
        """Nothing is ready from now on; the process still lives."""
        for name in list(self._states):
            if name:
                self._set(name, _NOT_SERVING)

    def end(self) -> None:
        """End every call of Watch, those to come included: they would hold a server that stops."""
        with self._lock:
            self._ended = True
            for watchers in self._watchers.values():
                for watcher in watchers:
                    watcher.tell(None)

    def is_ready(self, model: str) -> bool:
        """Whether a model is ready; the whole service for ""."""
        return self._states.get(_model(model) if model else VAE_SERVICE) == _SERVING

    def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """See grpc.health.v1."""
        state = self._states.get(request.service)
        if state is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return health_pb2.HealthCheckResponse(status=state)

    def Watch(  # type: ignore[override]  # noqa: N802  as grpcio calls it, see below
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext, send: _Send
    ) -> None:
        """See grpc.health.v1."""
        context.set_code(grpc.StatusCode.UNAVAILABLE)  # if it is we who end it
        context.set_details("the server is shutting down")
        watcher = _Watcher(send, self._senders)
        leave = partial(self._leave, request.service, watcher)
        with self._lock:
            self._watchers.setdefault(request.service, set()).add(watcher)
            state = self._states.get(request.service, _SERVICE_UNKNOWN)
            watcher.tell(None if self._ended else state)
        if not context.add_callback(leave):
            leave()

    # grpcio then calls it with `send` and keeps no thread until the watcher leaves.
    Watch.experimental_non_blocking = True  # type: ignore[attr-defined]

    def _set(self, service: str, state: int) -> None:
        """Change a state and have its watchers told."""
        with self._lock:
            self._states[service] = state
            for watcher in self._watchers.get(service, ()):
                watcher.tell(state)

    def _leave(self, service: str, watcher: "_Watcher") -> None:
        with self._lock:
            watchers = self._watchers[service]
            watchers.discard(watcher)
            if not watchers:
                del self._watchers[service]


class _Watcher:
    """Is sent the newest state, one message at a time, by a thread that may wait for it."""

    def __init__(self, send: _Send, senders: ThreadPoolExecutor) -> None:
        self._send = send
        self._senders = senders
        self._lock = threading.Lock()
        self._state: int | None = _UNTOLD
        self._sent: int | None = _UNTOLD
        self._sending = False

    def tell(self, state: int | None) -> None:
        """Have a state sent, or with None the end of the call; returns at once."""
        with self._lock:
            self._state = state
            if self._sending or state == self._sent:
                return
            self._sending = True
        with suppress(RuntimeError):  # the server has stopped, and its watchers are gone
            self._senders.submit(self._catch_up)

    def _catch_up(self) -> None:
        while True:
            with self._lock:
                if self._state == self._sent:
                    self._sending = False
                    return
                self._sent = state = self._state
            self._send(None if state is None else health_pb2.HealthCheckResponse(status=state))


def _model(name: str) -> str:
    return f"models/{name}"
