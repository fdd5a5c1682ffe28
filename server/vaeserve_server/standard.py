"""The standard transport: methods on grpcio's public server, one pool thread a call in flight.

Messages come and go as bytes, so that a message which is no protobuf gets an answer from our own
error table.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import grpc

from vaeserve_server.call import Call
from vaeserve_server.large_messages import LargeMessages, Step
from vaeserve_server.methods import SERVER_STREAM, UNARY, Method
from vaeserve_server.metrics import Metrics
from vaeserve_server.observers import RpcMetrics
from vaeserve_server.patience import Patience
from vaeserve_server.quota import SMALL_ANSWER, Quota, unread_answers
from vaeserve_server.standard_streams import Shared, StreamCall
from vaeserve_server.status import ONE_MESSAGE, status_of
from vaeserve_server.timing import ASK, timing_trailer
from vaeserve_server.tokens import Guard

MAX_CALLS = 512
"""A thread waits for every call in flight, so this bounds them."""

PATIENCE_S = 60.0
"""What a call's one message may take to come: 64 MiB at 9 Mbit/s."""

# Large messages that are parsed at a time, as on the lane: each takes its own size once more.
_PARSED_AT_ONCE = 2


def new_pool(threads: int, name: str, ends: ExitStack) -> ThreadPoolExecutor:
    """Threads that `ends` ends; they are made only when needed."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
    ends.callback(pool.shutdown, wait=False)
    return pool


def add_methods(
    server: grpc.Server,
    methods: list[Method],
    metrics: Metrics,
    *,
    guard: Guard | None,
    pool: ThreadPoolExecutor,
    patience: Patience,
) -> None:
    """Have the server answer methods.

    Args:
        server: not started.
        methods: which.
        metrics: where their series live.
        guard: who may call; None for everybody.
        pool: what they run in.
        patience: ends calls whose one message does not come.
    """
    shared = Shared(LargeMessages(_a_few_at_a_time()), unread_answers())
    by_service: dict[str, dict[str, grpc.RpcMethodHandler[bytes, bytes]]] = {}
    for method in methods:
        _, service, name = method.path.split("/")
        rpc = metrics.rpc(method.path, method.kind)
        by_service.setdefault(service, {})[name] = _handler(
            method, rpc, shared, guard=guard, pool=pool, patience=patience
        )
    for service, handlers in by_service.items():
        server.add_registered_method_handlers(service, handlers)


def run_in_pool(behaviour: Callable[..., object], pool: ThreadPoolExecutor) -> None:
    """Have grpcio run a method in a pool of its own instead of the server's."""
    behaviour.experimental_thread_pool = pool  # type: ignore[attr-defined]  # grpcio looks for it


def one_message(
    messages: Iterator[bytes], context: grpc.ServicerContext, patience: Patience
) -> bytes:
    """Wait for the message of a call that takes one.

    grpcio would wait for it in the same thread, but for ever, and before anybody is asked for a
    token. So to grpcio all methods take any number of messages.

    Raises:
        NoMessage: the caller has sent none.
        grpc.RpcError: the caller is gone, or was ended for taking too long.
    """
    with patience.waiting_for(context):
        for data in messages:
            return data
    raise NoMessage


class NoMessage(Exception):
    """A call without its one message."""


def _a_few_at_a_time() -> Callable[[Step], None]:
    turns = threading.Semaphore(_PARSED_AT_ONCE)

    def run(step: Step) -> None:
        with turns:
            step()

    return run


def _handler(
    method: Method,
    metrics: RpcMetrics,
    shared: Shared,
    *,
    guard: Guard | None,
    pool: ThreadPoolExecutor,
    patience: Patience,
) -> "grpc.RpcMethodHandler[bytes, bytes]":
    if method.kind == UNARY:

        def unary(messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
            with Counted(method, metrics, context) as counted:
                if guard is not None:
                    guard(context.invocation_metadata())
                data = one_message(messages, context, patience)
                metrics.received()
                reply = _answer(method, data, counted.call, shared)
                if len(reply) > SMALL_ANSWER:
                    _hold(len(reply), context, shared.unread)
                context.set_trailing_metadata(timing_trailer(counted.call))
                return reply

        run_in_pool(unary, pool)
        return grpc.stream_unary_rpc_method_handler(unary)

    def stream(messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        with Counted(method, metrics, context) as counted:
            if guard is not None:
                guard(context.invocation_metadata())
            if method.kind == SERVER_STREAM:
                messages = iter((one_message(messages, context, patience),))
            yield from StreamCall(method, counted.call, metrics, shared).answers(messages)
            context.set_trailing_metadata(timing_trailer(counted.call))

    run_in_pool(stream, pool)
    return grpc.stream_stream_rpc_method_handler(stream)


class Counted:
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

    def __enter__(self) -> "Counted":
        self._metrics.started()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        now = time.monotonic()
        seconds = now - self._began
        if isinstance(error, grpc.RpcError):
            error = self.call.left(now)  # grpcio says no more of a caller who is gone
        if isinstance(error, Exception):
            no_message = isinstance(error, NoMessage)
            status = ONE_MESSAGE if no_message else status_of(error, self._method.path)
            self._metrics.failed(status.code, seconds)
            self._context.abort_with_status(status)
        elif error is not None:  # a stream that nobody reads any more
            left = status_of(self.call.left(now), self._method.path)
            self._metrics.failed(left.code, seconds)
        else:
            self._metrics.succeeded(seconds)

    def _gone(self) -> None:
        self.call.cancelled = True


def _hold(size: int, context: grpc.ServicerContext, unread: Quota) -> None:
    """Count a large answer until its call is over."""
    unread.acquire(size)
    release = partial(unread.release, size)
    if not context.add_callback(release):
        release()


def _answer(method: Method, data: bytes, call: Call, shared: Shared) -> bytes:
    """Wait for the outcome of one request; its error is raised."""
    replies: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()
    shared.large.answer(method, data, call, replies.put)
    outcome = replies.get()
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
