"""The standard transport: our methods on grpcio's public server, one pool thread a call in flight.

Messages come and go as bytes, so that a message which is no protobuf gets an answer from our own
error table.
"""

import queue
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf.message import Message

from vaeserve_server.call import Call
from vaeserve_server.config import MAX_MESSAGE_BYTES
from vaeserve_server.errors import StartupError
from vaeserve_server.methods import Method
from vaeserve_server.metrics import Metrics, RpcMetrics
from vaeserve_server.status import status_of

# A thread waits for every call in flight, so this bounds them; threads are made only when needed.
_MAX_CALLS = 512

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Two servers on one port would each get some of the calls, silently.
    ("grpc.so_reuseport", 0),
    # The SDK pings a busy connection every 30 s; the default of 5 minutes would close it for that.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
)

_Behaviour = Callable[[bytes, grpc.ServicerContext], bytes]


def make_server(methods: list[Method], metrics: Metrics) -> grpc.Server:
    """A server that carries the methods; further services may be added before it is started."""
    pool = ThreadPoolExecutor(_MAX_CALLS, thread_name_prefix="rpc")
    server = grpc.server(pool, options=_OPTIONS)
    by_service: dict[str, dict[str, grpc.RpcMethodHandler[bytes, bytes]]] = {}
    for method in methods:
        _, service, name = method.path.split("/")
        behaviour = _behaviour(method, metrics.rpc(method.path))
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(
            behaviour
        )
        by_service.setdefault(service, {})[name] = handler
    for service, handlers in by_service.items():
        server.add_registered_method_handlers(service, handlers)
    return server


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


def _behaviour(method: Method, metrics: RpcMetrics) -> _Behaviour:
    def behaviour(data: bytes, context: grpc.ServicerContext) -> bytes:
        start = time.monotonic()
        metrics.started()
        # None without a deadline, whatever the stubs say.
        remaining: float | None = context.time_remaining()
        call = Call(deadline=None if remaining is None else start + remaining)

        def gone() -> None:
            call.cancelled = True

        if not context.add_callback(gone):
            gone()
        replies: queue.SimpleQueue[Message | Exception] = queue.SimpleQueue()
        method.answer(data, call, replies.put)
        outcome = replies.get()
        if not isinstance(outcome, Exception):
            reply = outcome.SerializeToString()
            metrics.handled(grpc.StatusCode.OK, time.monotonic() - start)
            return reply
        status = status_of(outcome, method.path)
        metrics.handled(status.code, time.monotonic() - start)
        context.abort_with_status(status)
        raise AssertionError("unreachable: abort raises")

    return behaviour
