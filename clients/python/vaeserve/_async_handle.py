"""What every call of a model's asyncio handle goes through; its calls are in `_async_model`."""

# ruff: noqa: ASYNC109  a timeout is the call's deadline, which is sent to the server

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import aclosing
from functools import partial

from grpc import aio

from vaeserve import _requests
from vaeserve._async_connection import AsyncConnection, held_by_task
from vaeserve._channel import LOOK_TIMEOUT, remaining
from vaeserve._errors import InvalidInput, NotFound, VaeserveError
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
        self._connection.require_open()
        async with held_by_task(self._fetching, deadline):
            if self._info is None:
                self._info = await self._get_model(deadline)
            return self._info

    async def _get_model(self, deadline: float) -> ModelInfo:
        request = _requests.get_model(self.name, self.version)
        method = self._connection.catalogue.GetModel
        reply = await self._connection.call(method, request, deadline)
        return ModelInfo.from_message(reply.model)

    async def _changed(self, info: ModelInfo, deadline: float) -> bool:
        """As `Handle._changed`."""
        soon = self._connection.deadline(LOOK_TIMEOUT)
        try:
            found = await self._get_model(min(deadline, soon))
        except VaeserveError:
            return False
        if found == info:
            return False
        self._info = found
        return True

    def _answered(self, version: int) -> None:
        """As `Handle._answered`."""
        if self._info is not None and self._info.version != version:
            self._info = None

    async def _run(
        self,
        method: "aio.UnaryUnaryMultiCallable[RequestT, ReplyT]",
        timeout: float | None,
        plan_for: Callable[[ModelInfo], Plan[RequestT, ReplyT, ResultT]],
        *,
        again: bool = True,
    ) -> ResultT:
        """As `Handle._run`."""
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
            if not again or not await self._changed(info, deadline):
                raise
            return await self._run(method, remaining(deadline), plan_for, again=False)
        if replies[-1].version != info.version:
            self._answered(replies[-1].version)
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
        """As `Handle._stream`."""
        deadline = partial(self._connection.deadline, timeout)
        info = self._info or await self._fetched(deadline())

        async def send(request: RequestT) -> ReplyT:
            return await self._connection.call(method, request, deadline())

        try:
            found = results_awaited(plans_for(info), send, self._answered)
            async with aclosing(found):
                async for result in found:
                    yield result
        except (InvalidInput, NotFound):
            await self._changed(info, deadline())
            raise
