"""The asyncio client: `_client` with `await`, written by hand; all that is pure is shared."""

# ruff: noqa: ASYNC109  a timeout is the call's deadline, which is sent to the server

from typing import Self

from vaeserve import _channel
from vaeserve._async_connection import AsyncConnection
from vaeserve._async_model import AsyncModel
from vaeserve._info import ModelState
from vaeserve._security import Tls, Token, security
from vaeserve.v1 import model_service_pb2


class AsyncClient:
    """A connection to a vaeserve server, for the tasks of one event loop.

    As `Client`, with `await`. Make it where its loop is running.

    Args:
        target: as for `Client`.
        timeout: seconds for a call that states none.
        retries: as for `Client`.
        tls: as for `Client`.
        token: as for `Client`; a function is called on the event loop and must not block.

    Raises:
        InvalidInput: as `Client`, or no event loop is running.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout: float = _channel.DEFAULT_TIMEOUT,
        retries: int = _channel.DEFAULT_RETRIES,
        tls: bool | Tls | None = None,
        token: Token | None = None,
    ) -> None:
        self._connection = AsyncConnection(target, timeout, retries, security(target, tls, token))

    async def models(self, *, timeout: float | None = None) -> list[ModelState]:
        """As `Client.models`."""
        request = model_service_pb2.ListModelsRequest()
        deadline = self._connection.deadline(timeout)
        method = self._connection.catalogue.ListModels
        reply = await self._connection.call(method, request, deadline)
        return [ModelState.from_message(state) for state in reply.models]

    def model(self, name: str, *, version: int | None = None) -> AsyncModel:
        """As `Client.model`."""
        return AsyncModel(self._connection, name, version)

    async def aclose(self) -> None:
        """As `Client.close`."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
