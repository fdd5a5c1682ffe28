"""Channels with their stubs, and the one place where a request is sent: deadline, retries, errors.

Its twin is `_async_connection`; they differ in how they wait and in nothing else.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

import grpc

from vaeserve import _channel, _forks
from vaeserve._channel import time_left
from vaeserve._errors import (
    ClientClosed,
    DeadlineExceeded,
    Unavailable,
    from_rpc_error,
    retry_delay,
)
from vaeserve._latency import ASK, BatchTime, batches_of
from vaeserve._security import Metadata, Security
from vaeserve.v1 import model_service_pb2_grpc, vae_service_pb2_grpc

Batches = list[BatchTime] | None

RequestT = TypeVar("RequestT")
ReplyT = TypeVar("ReplyT")

STILL_FETCHING = "the timeout passed while another call asked what the model is"


@contextmanager
def held(lock: threading.Lock, deadline: float) -> Iterator[None]:
    """Hold a lock that another call may hold while it waits for the server.

    Raises:
        DeadlineExceeded: it was not free in time.
    """
    if not lock.acquire(timeout=_channel.remaining(deadline)):
        raise DeadlineExceeded(STILL_FETCHING)
    try:
        yield
    finally:
        lock.release()


class Pending(NamedTuple, Generic[ReplyT]):
    """A request under way.

    Attributes:
        answer: waits for its answer, and sends it again where `Connection.call` would.
        cancel: gives it up, here and on the server.
    """

    answer: Callable[[], ReplyT]
    cancel: Callable[[], object]


class Connection:
    """What a `Client` and its models share; for any number of threads.

    Attributes:
        target: where the server is.
        catalogue: stub of the ModelService.
        vae: stub of the VaeService.
        deadline: when a call that starts now must be over, by its timeout in seconds; None stands
            for the client's.
    """

    def __init__(self, target: str, timeout: float, retries: int, security: Security) -> None:
        self.target = target
        self.deadline = partial(_channel.deadline_after, timeout)
        self.deadline(None)  # a timeout that is none is refused here, not by the first call
        self._retries = _channel.checked_retries(retries)
        self._security = security
        self._closed = threading.Event()
        self._forked = False
        _forks.watch(self)
        plain = _channel.open_channel(target, _channel.plain(self._retries), security.credentials)
        self._channels = [plain]
        self.catalogue = model_service_pb2_grpc.ModelServiceStub(plain)
        self.vae = vae_service_pb2_grpc.VaeServiceStub(plain)
        self._plain: dict[Any, Any] = {}
        if self._retries:
            checked = _channel.open_channel(target, _channel.checked(), security.credentials)
            self._channels.append(checked)
            spare, self.vae = self.vae, vae_service_pb2_grpc.VaeServiceStub(checked)
            self._plain = spares(self.vae, spare)

    def call(
        self,
        method: "grpc.UnaryUnaryMultiCallable[RequestT, ReplyT]",
        request: RequestT,
        deadline: float,
        batches: Batches = None,
    ) -> ReplyT:
        """Send one request, and again after a full queue, for as long as the deadline allows.

        Args:
            method: of one of the stubs.
            request: what to send.
            deadline: moment of `deadline`.
            batches: gets what the server tells of its time, which it is then asked for.

        Raises:
            VaeserveError: the call failed, or this is closed.
        """
        while not self._closed.is_set():
            try:
                if batches is None:
                    asked = self._security.metadata()
                    return method(request, timeout=time_left(deadline), metadata=asked)
                asked = self._metadata(batches)
                reply, sent = method.with_call(request, timeout=time_left(deadline), metadata=asked)
            except ValueError:
                # What gRPC raises for a channel that was closed since the check above.
                if self._closed.is_set():
                    break
                raise
            except grpc.RpcError as exc:
                method = self._again(method, exc, deadline)
            else:
                batches += batches_of(sent.trailing_metadata())
                return reply
        raise self._closed_error()

    def begin(
        self,
        method: "grpc.UnaryUnaryMultiCallable[RequestT, ReplyT]",
        request: RequestT,
        deadline: Callable[[], float],
        batches: Batches = None,
    ) -> "Pending[ReplyT]":
        """As `call`, without waiting for the answer.

        Args:
            method: as for `call`.
            request: as for `call`.
            deadline: tells the moment by which it must be answered. Asked now, and once more if it
                failed: that is noticed when its answer is asked for, which may be long after.
            batches: as for `call`.

        Raises:
            VaeserveError: it cannot be sent.
        """
        self.require_open()
        asked = self._metadata(batches)
        try:
            sent = method.future(request, timeout=time_left(deadline()), metadata=asked)
        except ValueError:
            self.require_open()
            raise
        answer = partial(self._answer, sent, method, request, deadline, batches)
        return Pending(answer, partial(self._cancel, sent))

    def _answer(
        self,
        sent: Any,  # a future of grpcio, whose type is private
        method: "grpc.UnaryUnaryMultiCallable[RequestT, ReplyT]",
        request: RequestT,
        deadline: Callable[[], float],
        batches: Batches,
    ) -> ReplyT:
        """Wait for the answer of a request under way, and send it again where `call` would."""
        self.require_open()
        try:
            reply: ReplyT = sent.result()
        except grpc.RpcError as exc:
            until = deadline()
            return self.call(self._again(method, exc, until), request, until, batches)
        if batches is not None:
            batches += batches_of(sent.trailing_metadata())
        return reply

    def _again(
        self,
        method: "grpc.UnaryUnaryMultiCallable[RequestT, ReplyT]",
        failure: grpc.RpcError,
        deadline: float,
    ) -> "grpc.UnaryUnaryMultiCallable[RequestT, ReplyT]":
        """By which method to repeat a request that failed; returns when it is time to.

        Raises:
            VaeserveError: it is not to be repeated.
        """
        if self._closed.is_set():
            return method  # by which `call` will say so
        error = from_rpc_error(failure, self.target)
        if isinstance(error, Unavailable) and method in self._plain:
            spare: grpc.UnaryUnaryMultiCallable[RequestT, ReplyT] = self._plain[method]
            return spare
        delay = retry_delay(error, _channel.remaining(deadline))
        if delay is None or not self._retries:
            raise error from failure
        self._closed.wait(delay)
        return method

    def require_open(self) -> None:
        """Raise ClientClosed where this is closed."""
        if self._closed.is_set():
            raise self._closed_error()

    def _closed_error(self) -> ClientClosed:
        return closed_error(self.target, forked=self._forked)

    def _cancel(self, sent: Any) -> None:
        if self._forked:
            _forks.keep(sent)
        else:
            sent.cancel()

    def _metadata(self, batches: Batches) -> Metadata:
        own = self._security.metadata()
        return own if batches is None else own + ASK

    def forked(self) -> None:
        """Called in a forked child: from now on it is closed there."""
        self._forked = True
        self._closed = threading.Event()  # another thread may have held the old one's lock
        self._closed.set()

    def close(self) -> None:
        """Cancel what is under way and disconnect; may be repeated."""
        self._closed.set()
        if self._forked:
            return
        for channel in self._channels:
            channel.close()


def closed_error(target: str, *, forked: bool) -> ClientClosed:
    if forked:
        return ClientClosed(
            f"the client for {target} was made before this process was forked; make one here, or "
            "start processes by spawn or forkserver"
        )
    return ClientClosed(f"the client for {target} is closed")


def spares(checked: Any, plain: Any) -> dict[Any, Any]:
    """The plain channel's method for each of the checked one's."""
    return {getattr(checked, name): getattr(plain, name) for name in vars(checked)}
