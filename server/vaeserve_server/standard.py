"""The standard transport: methods on grpcio's public server, one pool thread a call in flight.

Messages come and go as bytes, so that a message which is no protobuf gets an answer from our own
error table.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc

from vaeserve_server.call import Call
from vaeserve_server.methods import BIDI_STREAM, UNARY, Method
from vaeserve_server.metrics import Metrics
from vaeserve_server.observers import RpcMetrics
from vaeserve_server.status import status_of
from vaeserve_server.stream import MOST_BYTES, WINDOW
from vaeserve_server.timing import ASK, timing_trailer
from vaeserve_server.tokens import Guard

# A thread waits for every call in flight, so this bounds them; threads are made only when needed.
_MAX_CALLS = 512


def add_methods(
    server: grpc.Server, methods: list[Method], metrics: Metrics, guard: Guard | None
) -> ThreadPoolExecutor:
    """Have the server answer the methods, to everybody or to those whom the guard lets pass.

    Returns:
        the pool that they run in, to be shut down after the server.
    """
    pool = ThreadPoolExecutor(_MAX_CALLS, thread_name_prefix="rpc")
    by_service: dict[str, dict[str, grpc.RpcMethodHandler[bytes, bytes]]] = {}
    for method in methods:
        _, service, name = method.path.split("/")
        rpc = metrics.rpc(method.path, method.kind)
        by_service.setdefault(service, {})[name] = _handler(method, rpc, pool, guard)
    for service, handlers in by_service.items():
        server.add_registered_method_handlers(service, handlers)
    return pool


def run_in_pool(behaviour: Callable[..., object], pool: ThreadPoolExecutor) -> None:
    """Have grpcio run a method in a pool of its own instead of the server's."""
    behaviour.experimental_thread_pool = pool  # type: ignore[attr-defined]  # grpcio looks for it


def _handler(
    method: Method, metrics: RpcMetrics, pool: ThreadPoolExecutor, guard: Guard | None
) -> "grpc.RpcMethodHandler[bytes, bytes]":
    if method.kind == UNARY:

        def unary(data: bytes, context: grpc.ServicerContext) -> bytes:
            with _Counted(method, metrics, context) as counted:
                if guard is not None:
                    guard(context.invocation_metadata())
                metrics.received()
                reply = _answer(method, data, counted.call)
                context.set_trailing_metadata(timing_trailer(counted.call))
                return reply

        run_in_pool(unary, pool)
        return grpc.unary_unary_rpc_method_handler(unary)

    def stream(messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        with _Counted(method, metrics, context) as counted:
            if guard is not None:
                guard(context.invocation_metadata())
            for reply in _answers(method, messages, counted.call, metrics):
                metrics.sent()
                yield reply
            context.set_trailing_metadata(timing_trailer(counted.call))

    if method.kind == BIDI_STREAM:
        run_in_pool(stream, pool)
        return grpc.stream_stream_rpc_method_handler(stream)

    def one_message(data: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield from stream(iter((data,)), context)

    run_in_pool(one_message, pool)
    return grpc.unary_stream_rpc_method_handler(one_message)


class _Counted:
    """One call: its metrics, and its error as a status."""

    def __init__(self, method: Method, metrics: RpcMetrics, context: grpc.ServicerContext) -> None:
        self._method = method
        self._metrics = metrics
        self._context = context
        self._began = time.monotonic()
        # None without a deadline, whatever the stubs say.
        remaining: float | None = context.time_remaining()
        self.call = Call(
            deadline=None if remaining is None else self._began + remaining,
            timings=[] if ASK in context.invocation_metadata() else None,
        )
        if not context.add_callback(self._gone):
            self._gone()

    def __enter__(self) -> "_Counted":
        self._metrics.started()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        seconds = time.monotonic() - self._began
        if isinstance(error, Exception):
            status = status_of(error, self._method.path)
            self._metrics.failed(status.code, seconds)
            self._context.abort_with_status(status)
        elif error is not None:  # a stream that nobody reads any more
            left = status_of(self.call.left(time.monotonic()), self._method.path)
            self._metrics.failed(left.code, seconds)
        else:
            self._metrics.succeeded(seconds)

    def _gone(self) -> None:
        self.call.cancelled = True


def _answer(method: Method, data: bytes, call: Call) -> bytes:
    """Wait for the outcome of one request; its error is raised."""
    replies: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()
    method.answer(data, call, replies.put)
    outcome = replies.get()
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _answers(
    method: Method, messages: Iterator[bytes], call: Call, metrics: RpcMetrics
) -> Iterator[bytes]:
    """Answer a stream's requests in order, several of them at a time.

    Another thread reads them, for whoever waits for the next request cannot also wait for an
    answer.
    """
    room = _Room()
    slots: queue.SimpleQueue[tuple[queue.SimpleQueue[bytes | Exception], int] | None]
    slots = queue.SimpleQueue()

    def read() -> None:
        slot: queue.SimpleQueue[bytes | Exception]
        try:
            for data in messages:
                metrics.received()
                for request in method.requests(data):
                    if not room.enter(len(data)):
                        return
                    slot = queue.SimpleQueue()
                    slots.put((slot, len(data)))
                    method.answer(request, call, slot.put)
        except Exception as error:  # noqa: BLE001  the stream ends with it
            slot = queue.SimpleQueue()
            # grpcio says no more than this of a caller who is gone.
            left = isinstance(error, grpc.RpcError)
            slot.put(call.left(time.monotonic()) if left else error)
            slots.put((slot, 0))
        finally:
            slots.put(None)

    reader = threading.Thread(target=read, name="stream-reader", daemon=True)
    reader.start()
    try:
        while (taken := slots.get()) is not None:
            slot, size = taken
            outcome = slot.get()
            call.begun = True
            if isinstance(outcome, Exception):
                raise outcome
            yield outcome
            room.leave(size)
    finally:
        call.cancelled = True
        room.close()


class _Room:
    """How many requests of a stream may be unanswered, and how many bytes they may hold."""

    def __init__(self) -> None:
        self._requests = 0
        self._bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    def enter(self, size: int) -> bool:
        """Wait for room for a request of so many bytes; False once nobody reads the answers."""
        with self._changed:
            while not self._closed and (self._requests >= WINDOW or self._bytes >= MOST_BYTES):
                self._changed.wait()
            self._requests += 1
            self._bytes += size
            return not self._closed

    def leave(self, size: int) -> None:
        """Its answer has been read."""
        with self._changed:
            self._requests -= 1
            self._bytes -= size
            self._changed.notify()

    def close(self) -> None:
        """Nobody reads any more."""
        with self._changed:
            self._closed = True
            self._changed.notify()
