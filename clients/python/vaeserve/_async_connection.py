"""The asyncio twin of `_connection`: how it waits is its own, all else is shared."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import grpc
from grpc import aio

from vaeserve import _channel, _forks
from vaeserve._channel import time_left
from vaeserve._connection import (
    STILL_FETCHING,
    Batches,
    ReplyT,
    RequestT,
    closed_error,
    spares,
)
from vaeserve._errors import (
    ClientClosed,
    DeadlineExceeded,
    InvalidInput,
    Unavailable,
    from_rpc_error,
    retry_delay,
)
from vaeserve._latency import ASK, batches_of
from vaeserve._security import Security
from vaeserve.v1 import model_service_pb2_grpc, vae_service_pb2_grpc

_WHERE = "make an AsyncClient in a coroutine of the loop that uses it: async with AsyncClient(...)"


@asynccontextmanager
async def held_by_task(lock: asyncio.Lock, deadline: float) -> AsyncIterator[None]:
    """As `held`."""
    try:
        async with asyncio.timeout(_channel.remaining(deadline)):
            await lock.acquire()
    except TimeoutError as exc:
        raise DeadlineExceeded(STILL_FETCHING) from exc
    try:
        yield
    finally:
        lock.release()


class AsyncConnection:
    """What an `AsyncClient` and its models share; for the tasks of the running event loop.

    Attributes:
        target: where the server is.
        catalogue: stub of the ModelService.
        vae: stub of the VaeService.
        deadline: as of `Connection`.
    """

    def __init__(self, target: str, timeout: float, retries: int, security: Security) -> None:
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError as exc:
            raise InvalidInput(f"no event loop is running here; {_WHERE}") from exc
        self.target = target
        self.deadline = partial(_channel.deadline_after, timeout)
        self.deadline(None)  # as in `Connection`
        self._retries = _channel.checked_retries(retries)
        self._security = security
        self._closed = asyncio.Event()
        self._forked = False
        _forks.watch(self)
        plain = _channel.open_async_channel(
            target, _channel.plain(self._retries), security.credentials
        )
        self._channels = [plain]
        self.catalogue = model_service_pb2_grpc.ModelServiceStub(plain)
        self.vae = vae_service_pb2_grpc.VaeServiceStub(plain)
        self._plain: dict[Any, Any] = {}
        if self._retries:
            checked = _channel.open_async_channel(target, _channel.checked(), security.credentials)
            self._channels.append(checked)
            spare, self.vae = self.vae, vae_service_pb2_grpc.VaeServiceStub(checked)
            self._plain = spares(self.vae, spare)

    async def call(
        self,
        method: "aio.UnaryUnaryMultiCallable[RequestT, ReplyT]",
        request: RequestT,
        deadline: float,
        batches: Batches = None,
    ) -> ReplyT:
        """As `Connection.call`."""
        while not self._closed.is_set():
            timeout = time_left(deadline)
            asked = self._security.metadata()
            if batches is not None:
                asked += ASK
            try:
                sent = method(request, timeout=timeout, metadata=asked)
                reply = await sent
                if batches is not None:
                    batches += batches_of(await sent.trailing_metadata())
            except (asyncio.CancelledError, aio.UsageError):
                # A channel that is closed cancels its calls, though nobody cancelled their tasks.
                if self._closed.is_set() and not _being_cancelled():
                    break
                raise
            except RuntimeError as exc:
                if self._loop is asyncio.get_running_loop():
                    raise
                raise ClientClosed(
                    f"the client for {self.target} is of another event loop; {_WHERE}"
                ) from exc
            except grpc.RpcError as exc:
                method = await self._again(method, exc, deadline)
            else:
                return reply
        raise self._closed_error()

    async def _again(
        self,
        method: "aio.UnaryUnaryMultiCallable[RequestT, ReplyT]",
        failure: grpc.RpcError,
        deadline: float,
    ) -> "aio.UnaryUnaryMultiCallable[RequestT, ReplyT]":
        """As `Connection._again`."""
        if self._closed.is_set():
            return method
        error = from_rpc_error(failure, self.target)
        if isinstance(error, Unavailable) and method in self._plain:
            spare: aio.UnaryUnaryMultiCallable[RequestT, ReplyT] = self._plain[method]
            return spare
        delay = retry_delay(error, _channel.remaining(deadline))
        if delay is None or not self._retries:
            raise error from failure
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), delay)
        return method

    def require_open(self) -> None:
        """Raise ClientClosed where this is closed."""
        if self._closed.is_set():
            raise self._closed_error()

    def _closed_error(self) -> ClientClosed:
        return closed_error(self.target, forked=self._forked)

    def forked(self) -> None:
        """Called in a forked child: from now on it is closed there."""
        self._forked = True
        self._closed = asyncio.Event()  # another thread may have held the old one's lock
        self._closed.set()

    async def close(self) -> None:
        """As `Connection.close`."""
        self._closed.set()
        if self._forked:
            return
        for channel in self._channels:
            await channel.close()


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
