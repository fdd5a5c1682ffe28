"""Readiness, as grpc.health.v1 tells it: what Check answers, and what Watch is to send.

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

from grpc_health.v1 import health_pb2

from vaeserve_server.errors import NotFound
from vaeserve_server.methods import MODEL_SERVICE, SERVER_STREAM, VAE_SERVICE, Method
from vaeserve_server.models import Catalogue
from vaeserve_server.oip import OIP_SERVICE

HEALTH_SERVICE = "grpc.health.v1.Health"

_SERVING: int = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: int = health_pb2.HealthCheckResponse.NOT_SERVING
_SERVICE_UNKNOWN: int = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

_UNTOLD = -1
_NO_MORE = -2


class Health:
    """What the health service says; its lock is never held while anybody waits.

    Attributes:
        check: the method of that name.
        watch: the method of that name; its handler tells the service that is asked for, the
            transport sends what a `Watcher` is given.
    """

    def __init__(self) -> None:
        """Live, not ready."""
        services = (VAE_SERVICE, OIP_SERVICE, MODEL_SERVICE)
        self._states = {"": _SERVING} | dict.fromkeys(services, _NOT_SERVING)
        self._watchers: dict[str, set[Watcher]] = {}
        self._ended = False
        self._lock = threading.Lock()
        asked = health_pb2.HealthCheckRequest
        self.check = Method(f"/{HEALTH_SERVICE}/Check", asked, self._check)
        self.watch = Method(f"/{HEALTH_SERVICE}/Watch", asked, _service, SERVER_STREAM)

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
                    watcher.tell(_NO_MORE)

    def is_ready(self, model: str) -> bool:
        """Whether a model is ready; the whole service for ""."""
        return self._states.get(_model(model) if model else VAE_SERVICE) == _SERVING

    def begin_watch(self, service: str, watcher: "Watcher") -> None:
        """Have a watcher told the state of a service, now and whenever it changes."""
        with self._lock:
            self._watchers.setdefault(service, set()).add(watcher)
            state = self._states.get(service, _SERVICE_UNKNOWN)
            watcher.tell(_NO_MORE if self._ended else state)

    def end_watch(self, service: str, watcher: "Watcher") -> None:
        """Forget a watcher, whose call is over."""
        watcher.leave()
        with self._lock:
            watchers = self._watchers[service]
            watchers.discard(watcher)
            if not watchers:
                del self._watchers[service]

    def _check(self, request: health_pb2.HealthCheckRequest) -> health_pb2.HealthCheckResponse:
        state = self._states.get(request.service)
        if state is None:
            raise NotFound("no such service", reason="SERVICE_NOT_FOUND", field="service")
        return health_pb2.HealthCheckResponse(status=state)

    def _set(self, service: str, state: int) -> None:
        """Change a state and have its watchers told."""
        with self._lock:
            self._states[service] = state
            if not self._ended:
                for watcher in self._watchers.get(service, ()):
                    watcher.tell(state)


class Watcher:
    """What one call of Watch is sent: the newest state, once it has taken the one before."""

    def __init__(self, send: Callable[[bytes | None], object]) -> None:
        """Nothing has been sent.

        Args:
            send: begins to send a message, or with None the end of the call, and returns at once;
                `taken` is to be called once it has left.
        """
        self._send = send
        self._lock = threading.Lock()
        self._state = self._sent = _UNTOLD
        self._sending = False
        self._left = False

    def tell(self, state: int) -> None:
        """Have a state sent; returns at once."""
        with self._lock:
            self._state = state
            self._catch_up()

    def taken(self) -> None:
        """What was sent has left."""
        with self._lock:
            self._sending = False
            self._catch_up()

    def leave(self) -> None:
        """Send nothing from now on: the call is over."""
        with self._lock:
            self._left = True

    def _catch_up(self) -> None:
        """Send the newest state, if that is news and nothing is on its way; the lock is held."""
        if self._sending or self._left or self._state == self._sent:
            return
        self._sending = True
        self._sent = state = self._state
        if state == _NO_MORE:
            self._left = True
            self._send(None)
        else:
            self._send(health_pb2.HealthCheckResponse(status=state).SerializeToString())


def _service(request: health_pb2.HealthCheckRequest) -> bytes:
    return request.service.encode()


def _model(name: str) -> str:
    return f"models/{name}"
