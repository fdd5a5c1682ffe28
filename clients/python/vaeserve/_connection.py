"""A channel with its stubs, and the one place where a request is sent: deadline, retries, errors.

Blocking and asyncio twins side by side; they differ in how they wait and in nothing else.
"""

import asyncio
import threading
from typing import TypeVar

import grpc
from grpc import aio

from vaeserve import _channel
from vaeserve._errors import ClientClosed, from_rpc_error, retry_delay
from vaeserve.v1 import model_service_pb2_grpc, vae_service_pb2_grpc

RequestT = TypeVar("RequestT")
ReplyT = TypeVar("ReplyT")


class Connection:
    """What a `Client` and its models share; for any number of threads.

    Attributes:
        target: where the server is.
        catalogue: stub of the ModelService.
        vae: stub of the VaeService.
    """

    def __init__(self, target: str, timeout: float, retries: int) -> None:
        self.target = target
        self._timeout = timeout
        self._retries = retries
        self._closed = threading.Event()
        self._channel = _channel.open_channel(target, retries)
        self.catalogue = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self.vae = vae_service_pb2_grpc.VaeServiceStub(self._channel)

    def deadline(self, timeout: float | None) -> float:
        """When a call that starts now must be over; None stands for the client's timeout."""
        return _channel.deadline_after(self._timeout if timeout is None else timeout)

    def call(
        self,
        method: "grpc.UnaryUnaryMultiCallable[RequestT, ReplyT]",
        request: RequestT,
        deadline: float,
    ) -> ReplyT:
        """Send one request, and again after a full queue, for as long as the deadline allows.

        Raises:
            VaeserveError: the call failed, or this is closed.
        """
        while not self._closed.is_set():
            try:
                return method(request, timeout=_channel.remaining(deadline))
            except grpc.RpcError as exc:
                if self._closed.is_set():
                    break
                error = from_rpc_error(exc, self.target)
                delay = retry_delay(error, _channel.remaining(deadline))
                if delay is None or not self._retries:
                    raise error from exc
            self._closed.wait(delay)
        raise ClientClosed(f"the client for {self.target} is closed")

    def close(self) -> None:
        """Cancel what is under way and disconnect; may be repeated."""
        self._closed.set()
        self._channel.close()


class AsyncConnection:
    """What an `AsyncClient` and its models share; for the tasks of the running event loop.

    Attributes:
        target: where the server is.
        catalogue: stub of the ModelService.
        vae: stub of the VaeService.
    """

    def __init__(self, target: str, timeout: float, retries: int) -> None:
        self.target = target
        self._timeout = timeout
        self._retries = retries
        self._closed = asyncio.Event()
        self._channel = _channel.open_async_channel(target, retries)
        self.catalogue = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self.vae = vae_service_pb2_grpc.VaeServiceStub(self._channel)

    def deadline(self, timeout: float | None) -> float:
        """As `Connection.deadline`."""
        return _channel.deadline_after(self._timeout if timeout is None else timeout)

    async def call(
        self,
        method: "aio.UnaryUnaryMultiCallable[RequestT, ReplyT]",
        request: RequestT,
        deadline: float,
    ) -> ReplyT:
        """As `Connection.call`."""
        while not self._closed.is_set():
            try:
                return await method(request, timeout=_channel.remaining(deadline))
            except grpc.RpcError as exc:
                if self._closed.is_set():
                    break
                error = from_rpc_error(exc, self.target)
                delay = retry_delay(error, _channel.remaining(deadline))
                if delay is None or not self._retries:
                    raise error from exc
            await asyncio.sleep(delay)
        raise ClientClosed(f"the client for {self.target} is closed")

    async def close(self) -> None:
        """As `Connection.close`."""
        self._closed.set()
        await self._channel.close()
