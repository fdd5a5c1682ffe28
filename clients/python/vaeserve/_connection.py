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
        self._retries = retries
        self._security = security
        self._closed = threading.Event()
        self._forked = False
        _forks.watch(self)
        configs = [_channel.plain(retries), _channel.checked()][: 1 + (retries > 0)]
        self._channels = [
            _channel.open_channel(target, config, security.credentials) for config in configs
        ]
        self.catalogue = model_service_pb2_grpc.ModelServiceStub(self._channels[0])
        self.vae = vae_service_pb2_grpc.VaeServiceStub(self._channels[-1])
        self._plain = spares(
            self.vae, vae_service_pb2_grpc.VaeServiceStub(self._channels[0]), retries
        )

    def call(
        self,
        method: "grpc.UnaryUnaryMultiCallable[RequestT, ReplyT]",
        request: RequestT,
        deadline: float,
        batches: Batches = None,
        sent: Any = None,  # a future of grpcio, whose type is private
    ) -> ReplyT:
        """Send one request, and again after a full queue, for as long as the deadline allows.

        Args:
            method: of one of the stubs.
            request: what to send.
            deadline: moment of `deadline`.
            batches: gets what the server tells of its time, which it is then asked for.
            sent: the request where it is under way already.

        Raises:
            VaeserveError: the call failed, or this is closed.
        """
        while not self._closed.is_set():
            reply: ReplyT
            try:
                if sent is not None:
                    reply = sent.result()
                elif batches is None:
                    asked = self._security.metadata()
                    return method(request, timeout=time_left(deadline), metadata=asked)
                else:
                    asked = self._metadata(batches)
                    reply, sent = method.with_call(
                        request, timeout=time_left(deadline), metadata=asked
                    )
                if batches is not None:
                    batches += batches_of(sent.trailing_metadata())
            except ValueError:
                # What gRPC raises for a channel that was closed since the check above.
                if self._closed.is_set():
                    break
                raise
            except grpc.RpcError as exc:
                sent = None
                if self._closed.is_set():
                    break
                error = from_rpc_error(exc, self.target)
                if isinstance(error, Unavailable) and method in self._plain:
                    method = self._plain[method]
                    continue
                delay = retry_delay(error, _channel.remaining(deadline))
                if delay is None or not self._retries:
                    raise error from exc
            else:
                return reply
            self._closed.wait(delay)
        raise closed_error(self.target, forked=self._forked)

    def begin(
        self,
        method: "grpc.UnaryUnaryMultiCallable[RequestT, ReplyT]",
        request: RequestT,
        deadline: float,
        batches: Batches = None,
    ) -> "Pending[ReplyT]":
        """As `call`, without waiting for the answer.

        Raises:
            VaeserveError: it cannot be sent.
        """
        if self._closed.is_set():
            raise closed_error(self.target, forked=self._forked)
        asked = self._metadata(batches)
        try:
            sent = method.future(request, timeout=time_left(deadline), metadata=asked)
        except ValueError:
            if self._closed.is_set():
                raise closed_error(self.target, forked=self._forked) from None
            raise
        answer = partial(self.call, method, request, deadline, batches, sent)
        return Pending(answer, partial(self._cancel, sent))

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


def spares(checked: Any, plain: Any, retries: int) -> dict[Any, Any]:
    """The plain channel's method for each of the checked one's, where calls are repeated."""
    return {getattr(checked, name): getattr(plain, name) for name in vars(checked) if retries > 0}
