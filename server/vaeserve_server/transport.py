"""The standard transport: our methods on grpcio's public server, one pool thread a call in flight.

Messages come and go as bytes, so that a message which is no protobuf gets an answer from our own
error table.
"""

import queue
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from vaeserve_server.call import Call
from vaeserve_server.config import MAX_MESSAGE_BYTES
from vaeserve_server.errors import StartupError
from vaeserve_server.methods import Method
from vaeserve_server.metrics import Metrics, RpcMetrics
from vaeserve_server.status import status_of

# A thread waits for every call in flight, so this bounds them; threads are made only when needed.
_MAX_CALLS = 512

# Calls that have arrived and wait to be picked up.
_MAX_PENDING = 16_384

# Health has these to itself: whatever our own calls wait for, it answers.
_HEALTH_CALLS = 8
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

_Behaviour = Callable[[bytes, grpc.ServicerContext], bytes]


def make_server(methods: list[Method], metrics: Metrics, *, reuse_port: bool) -> grpc.Server:
    """A server that carries the methods; further services may be added before it is started.

    Args:
        methods: what it answers.
        metrics: told of every call.
        reuse_port: whether further processes of this user may listen on its port; connections are
            then spread over them.
    """
    # Unasked, two servers on one port would each get some of the calls, silently.
    options = (*_OPTIONS, ("grpc.so_reuseport", int(reuse_port)))
    pool = ThreadPoolExecutor(_MAX_CALLS, thread_name_prefix="rpc")
    server = grpc.server(
        ThreadPoolExecutor(_HEALTH_CALLS, thread_name_prefix="health"), options=options
    )
    by_service: dict[str, dict[str, grpc.RpcMethodHandler[bytes, bytes]]] = {}
    for method in methods:
        _, service, name = method.path.split("/")
        behaviour = _behaviour(method, metrics.rpc(method.path))
        run_in_pool(behaviour, pool)
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(
            behaviour
        )
        by_service.setdefault(service, {})[name] = handler
    for service, handlers in by_service.items():
        server.add_registered_method_handlers(service, handlers)
    return server


def add_reflection(server: grpc.Server, services: Iterable[str]) -> None:
    """Let tools such as grpcurl ask what there is to call.

    Each of their streams holds a thread for as long as it likes, so these have few of their own.
    """
    pool = ThreadPoolExecutor(_REFLECTION_CALLS, thread_name_prefix="reflection")
    servicer: Any = reflection.ReflectionServicer((*services, reflection.SERVICE_NAME))
    servicer.ServerReflectionInfo = partial(servicer.ServerReflectionInfo)  # takes attributes
    run_in_pool(servicer.ServerReflectionInfo, pool)
    add_servicer: Any = reflection_pb2_grpc.add_ServerReflectionServicer_to_server
    add_servicer(servicer, server)


def bind(server: grpc.Server, address: str) -> int:
    """Open the port.

    Returns:
        the port it got.

    Raises:
        StartupError: the address is taken or not ours.
    """
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        port = 0
    if not port:
        raise StartupError(f"cannot listen on {address}: is the port taken?")
    return port


def run_in_pool(behaviour: Callable[..., object], pool: ThreadPoolExecutor) -> None:
    """Have grpcio run a method in a pool of its own instead of the server's."""
    behaviour.experimental_thread_pool = pool  # type: ignore[attr-defined]  # grpcio looks for it


def _behaviour(method: Method, metrics: RpcMetrics) -> _Behaviour:
    def behaviour(data: bytes, context: grpc.ServicerContext) -> bytes:
        start = time.monotonic()
        metrics.started()
        try:
            reply = _answer(method, data, context, start)
        except Exception as error:
            status = status_of(error, method.path)
            metrics.handled(status.code, time.monotonic() - start)
            context.abort_with_status(status)
            raise AssertionError("unreachable: abort raises") from error
        metrics.handled(grpc.StatusCode.OK, time.monotonic() - start)
        return reply

    return behaviour


def _answer(method: Method, data: bytes, context: grpc.ServicerContext, now: float) -> bytes:
    """Wait for the outcome of one request; its error is raised."""
    # None without a deadline, whatever the stubs say.
    remaining: float | None = context.time_remaining()
    call = Call(deadline=None if remaining is None else now + remaining)

    def gone() -> None:
        call.cancelled = True

    if not context.add_callback(gone):
        gone()
    replies: queue.SimpleQueue[Message | Exception] = queue.SimpleQueue()
    method.answer(data, call, replies.put)
    outcome = replies.get()
    if isinstance(outcome, Exception):
        raise outcome
    return outcome.SerializeToString()
