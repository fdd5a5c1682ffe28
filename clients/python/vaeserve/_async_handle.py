"""What every call of a model's asyncio handle goes through; its calls are in `_async_model`."""

# ruff: noqa: ASYNC109  a timeout is the call's deadline, which is sent to the server

import asyncio
from collections.abc import Callable, Sequence

from grpc import aio

from vaeserve import _requests
from vaeserve._connection import AsyncConnection, held_by_task
from vaeserve._errors import InvalidInput, NotFound
from vaeserve._info import ModelInfo
from vaeserve._plan import Plan, ReplyT, RequestT, ResultT

_PARTS_IN_FLIGHT = 4  # requests of one split call that are under way at the same time


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
        return await self._info_by(self._connection.deadline(None))

    def __repr__(self) -> str:
        pinned = "" if self.version is None else f", version={self.version}"
        return f"<AsyncModel {self.name!r}{pinned} at {self._connection.target}>"

    async def _info_by(self, deadline: float) -> ModelInfo:
        if (known := self._info) is not None:
            return known
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
        """Carry out a call, a few parts at a time."""
        deadline = self._connection.deadline(timeout)
        info = await self._info_by(deadline)
        try:
            plan = plan_for(info)
            replies = await self._send_all(method, plan, deadline)
        except (InvalidInput, NotFound):
            self._info = None  # perhaps another version is served by now: look again next time
            raise
        if replies[-1].version != info.version:
            self._info = None
        return plan.join(replies)

    async def _send_all(
        self,
        method: "aio.UnaryUnaryMultiCallable[RequestT, ReplyT]",
        plan: Plan[RequestT, ReplyT, ResultT],
        deadline: float,
    ) -> Sequence[ReplyT]:
        """Send the parts; the first failure, or a cancel, ends those still under way."""
        if len(plan.parts) == 1:
            # As most calls are: a task and a gate would cost as much as the rest.
            return [await self._connection.call(method, plan.build(plan.parts[0]), deadline)]
        gate = asyncio.Semaphore(_PARTS_IN_FLIGHT)

        async def send(part: range) -> ReplyT:
            async with gate:
                return await self._connection.call(method, plan.build(part), deadline)

        tasks = [asyncio.ensure_future(send(part)) for part in plan.parts]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
