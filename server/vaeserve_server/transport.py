"""The port, and which way methods come in from it: by the lane or by grpcio's public API."""

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from vaeserve_server import core_queue, standard
from vaeserve_server.config import MAX_MESSAGE_BYTES, Transport as Choice
from vaeserve_server.errors import StartupError, Unauthenticated
from vaeserve_server.health import Health
from vaeserve_server.lane import Lane, kind_of
from vaeserve_server.lane_health import health_kind
from vaeserve_server.methods import Method
from vaeserve_server.metrics import Metrics
from vaeserve_server.patience import Patience
from vaeserve_server.standard_health import add_health
from vaeserve_server.status import status_of
from vaeserve_server.tokens import Guard
from vaeserve_server.turn import Turn

# Calls that have arrived and wait to be picked up.
_MAX_PENDING = 16_384

_REFLECTION_CALLS = 8

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # gRPC cancels calls at random once 1,000 have arrived and not been picked up: a burst would do.
    ("grpc.server.max_pending_requests", _MAX_PENDING),
    ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING),
    # The SDK pings a busy connection every 30 s; the default of 5 minutes would close it for that.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
)

# What C-core may take to cancel what is left after the grace.
_AFTER_GRACE_S = 2.0

_log = logging.getLogger(__name__)


class Transport:
    """The gRPC server."""

    def __init__(
        self,
        methods: list[Method],
        metrics: Metrics,
        turn: Turn,
        health: Health,
        *,
        choice: Choice,
        reuse_port: bool,
        on_death: Callable[[], None],
        guard: Guard | None = None,
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        """Make it; nothing listens yet.

        Args:
            methods: what it answers.
            metrics: where their series live.
            turn: what the lane runs short batches in.
            health: what the health service tells; it is open to all, for those who ask for it
                seldom have a token.
            choice: `lane`, `standard`, or `auto`, which is the lane where it works.
            reuse_port: whether further processes of this user may listen on its port; connections
                are then spread over them.
            on_death: called if the lane dies of a bug.
            guard: who may make calls and ask what there is; None for everybody.
            credentials: certificate of the port; None for plaintext.

        Raises:
            StartupError: the lane is insisted on and does not work with this grpcio.
        """
        self._ends = ExitStack()
        # Unasked, two servers on one port would each get some of the calls, silently.
        options = (*_OPTIONS, ("grpc.so_reuseport", int(reuse_port)))
        self._guard = guard
        self._credentials = credentials
        # Nothing runs in the server's own pool: whatever holds a thread has a pool to itself.
        self._server = grpc.server(standard.new_pool(1, "grpc", self._ends), options=options)
        self._lanes: tuple[Lane, ...] = ()
        problem = None if choice == "standard" else core_queue.problem()
        if choice == "standard" or problem is not None:
            if choice == "lane":
                raise StartupError(f"--transport lane: {problem}")
            if problem is not None:
                _log.warning("using the standard transport", extra={"problem": problem})
            pool = standard.new_pool(standard.MAX_CALLS, "rpc", self._ends)
            patience = Patience(standard.PATIENCE_S)
            self._ends.callback(patience.close)
            standard.add_methods(
                self._server, methods, metrics, guard=guard, pool=pool, patience=patience
            )
            add_health(self._server, health, self._ends)
        else:
            kind = partial(kind_of, guard)
            lane = Lane(self._server, methods, metrics, turn, on_death, kind=kind)
            # Of its own, so that it answers whatever our own calls, or the lane itself, wait for;
            # counted where nobody looks, for it is no load.
            health_lane = Lane(
                self._server,
                [health.check, health.watch],
                Metrics(),
                Turn(),
                on_death,
                kind=partial(health_kind, health),
                name="health",
            )
            self._lanes = (lane, health_lane)

    @property
    def name(self) -> str:
        """`lane` or `standard`."""
        return "lane" if self._lanes else "standard"

    def add_reflection(self, services: Iterable[str]) -> None:
        """Let tools such as grpcurl ask what there is to call.

        Each of their streams holds a thread for as long as it likes, so these have few of their
        own.
        """
        pool = standard.new_pool(_REFLECTION_CALLS, "reflection", self._ends)
        servicer: Any = reflection.ReflectionServicer((*services, reflection.SERVICE_NAME))
        servicer.ServerReflectionInfo = partial(self._reflect, servicer.ServerReflectionInfo)
        standard.run_in_pool(servicer.ServerReflectionInfo, pool)
        add_servicer: Any = reflection_pb2_grpc.add_ServerReflectionServicer_to_server
        add_servicer(servicer, self._server)

    def _reflect(self, behaviour: Any, requests: Any, context: grpc.ServicerContext) -> Any:
        if self._guard is not None:
            try:
                self._guard(context.invocation_metadata())
            except Unauthenticated as error:
                context.abort_with_status(status_of(error, reflection.SERVICE_NAME))
        return behaviour(requests, context)

    def start(self, address: str) -> int:
        """Open the port and take calls.

        Returns:
            the port it got.

        Raises:
            StartupError: the address is taken or not ours.
        """
        try:
            if self._credentials is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, self._credentials)
        except RuntimeError:
            port = 0
        if not port:
            # gRPC does not say which; its own log has what is wrong with a certificate.
            or_tls = (
                ", or are the TLS files no certificate and its key" if self._credentials else ""
            )
            raise StartupError(f"cannot listen on {address}: is the port taken{or_tls}?")
        self._server.start()
        for lane in self._lanes:
            lane.start()
        _log.info("listening", extra={"transport": self.name, "port": port})
        return port

    def stop(self, grace_s: float) -> None:
        """Refuse new calls, give those in flight `grace_s` seconds, end every thread."""
        end = time.monotonic() + grace_s
        # Bounded: a client that ignores our going away must not hold us beyond the grace.
        if not self._server.stop(grace_s).wait(grace_s + _AFTER_GRACE_S):
            _log.warning("connections did not close in time")
        for lane in self._lanes:
            lane.stop(max(1.0, end - time.monotonic()))
        self._ends.close()
