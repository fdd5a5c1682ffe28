"""What every call of a model's asyncio handle goes through; its calls are in `_async_model`."""

# ruff: noqa: ASYNC109  a timeout is the call's deadline, which is sent to the server

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import aclosing

from grpc import aio

from vaeserve import _requests
from vaeserve._async_connection import AsyncConnection, held_by_task
from vaeserve._errors import InvalidInput, NotFound, VersionChanged
from vaeserve._info import ModelInfo
from vaeserve._latency import BatchTime, asked, with_latency
from vaeserve._plan import Plan, ReplyT, RequestT, ResultT
from vaeserve._streams import each, in_order_awaited, results_awaited


class AsyncHandle:
    """As `Handle`, with `await`.

    Attributes:
        name: name of the model.
        version: the version held on to, or None.
    """

    def __init__(self, connection: AsyncConnection, name: str, version: int | None) -> None:
        self.name = name
        self.version = version
        self._connection = connection
        self._fetching = asyncio.Lock()
        self._info: ModelInfo | None = None

    async def info(self) -> ModelInfo:
        """As `Model.info`."""
        return self._info or await self._fetched(self._connection.deadline(None))

    def __repr__(self) -> str:
        pinned = "" if self.version is None else f", version={self.version}"
        return f"<AsyncModel {self.name!r}{pinned} at {self._connection.target}>"

    async def _fetched(self, deadline: float) -> ModelInfo:
        async with held_by_task(self._fetching, deadline):
            if self._info is None:
                request = _requests.get_model(self.name, self.version)
                reply = await self._connection.call(
                    self._connection.catalogue.GetModel, request, deadline
                )
                self._info = ModelInfo.from_message(reply.model)
            return self._info

    async def _run(
        self,
        method: "aio.UnaryUnaryMultiCallable[RequestT, ReplyT]",
        timeout: float | None,
        plan_for: Callable[[ModelInfo], Plan[RequestT, ReplyT, ResultT]],
    ) -> ResultT:
        """Carry out a call."""
        deadline = self._connection.deadline(timeout)
        info = self._info or await self._fetched(deadline)
        began, batches = time.monotonic(), asked()
        try:
            plan = plan_for(info)
            if len(plan.parts) == 1:  # as most calls; a task would cost more than all else here
                request = plan.build(plan.parts[0])
                replies = [await self._connection.call(method, request, deadline, batches)]
            else:
                replies = await self._send_parts(method, plan, deadline, batches)
        except (InvalidInput, NotFound):
            self._info = None  # perhaps another version is served by now: look again next time
            raise
        if replies[-1].version != info.version:
            self._info = None
        result = plan.join(replies)
        return result if batches is None else with_latency(result, began, batches)

    async def _send_parts(
        self,
        method: "aio.UnaryUnaryMultiCallable[RequestT, ReplyT]",
        plan: Plan[RequestT, ReplyT, ResultT],
        deadline: float,
        batches: list[BatchTime] | None,
    ) -> list[ReplyT]:
        """As `Handle._send_parts`; a cancel ends them too."""

        async def send(part: range) -> ReplyT:
            return await self._connection.call(method, plan.build(part), deadline, batches)

        async with aclosing(in_order_awaited(send, each(plan.parts))) as replies:
            return [reply async for reply in replies]

    async def _stream(
        self,
        method: "aio.UnaryUnaryMultiCallable[RequestT, ReplyT]",
        timeout: float | None,
        plans_for: Callable[[ModelInfo], AsyncIterable[Plan[RequestT, ReplyT, ResultT]]],
    ) -> AsyncGenerator[ResultT, None]:
        """As `Model._stream`."""
        info = self._info or await self._fetched(self._connection.deadline(timeout))

        async def send(request: RequestT) -> ReplyT:
            deadline = self._connection.deadline(timeout)
            return await self._connection.call(method, request, deadline)

        try:
            async with aclosing(results_awaited(plans_for(info), send)) as found:
                async for result in found:
                    yield result
        except (InvalidInput, NotFound, VersionChanged):
            self._info = None
            raise
