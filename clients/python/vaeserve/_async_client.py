"""The asyncio client: `_client` with `await`, written by hand; all that is pure is shared."""

# ruff: noqa: ASYNC109  a timeout is the call's deadline, which is sent to the server

<<<<<<< HEAD
from typing import Self

from vaeserve import _channel
from vaeserve._async_model import AsyncModel
from vaeserve._connection import AsyncConnection
from vaeserve._info import ModelState
=======
import asyncio
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Sequence,
)
from contextlib import aclosing
from typing import Self

import numpy as np
import numpy.typing as npt
from grpc import aio

from vaeserve import _channel, _requests
from vaeserve._connection import AsyncConnection, held_by_task
from vaeserve._errors import InvalidInput, NotFound, VersionChanged
from vaeserve._foreign import PictureLike
from vaeserve._info import ModelInfo, ModelState
from vaeserve._latency import BatchTime, asked, with_latency
from vaeserve._plan import Plan, ReplyT, RequestT, ResultT
from vaeserve._results import Array, Generated, Posterior
>>>>>>> sdk
from vaeserve._security import Tls, Token, security
from vaeserve._streams import (
    DecodePlan,
    EncodePlan,
    each,
    encode_planner,
    in_order_awaited,
    results_awaited,
    sample_plans,
)
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
<<<<<<< HEAD
=======


class AsyncModel:
    """A model of the server, by name. Made by `AsyncClient.model`.

    As `Model`, with `await`; `info` is a method here, and streams are asynchronous iterators.

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

    async def encode(
        self,
        x: PictureLike,
        *,
        draws: int = 0,
        seed: int | None = None,
        first_row: int = 0,
        timeout: float | None = None,
    ) -> Posterior:
        """As `Model.encode`."""
        return await self._run(
            self._connection.vae.Encode,
            timeout,
            lambda info: _requests.encode(
                info, self.version or 0, x, draws=draws, seed=seed, first_row=first_row
            ),
        )

    async def sample(
        self,
        n: int,
        *,
        seed: int | None = None,
        temperature: float = 1.0,
        first_row: int = 0,
        latents: bool = False,
        dtype: npt.DTypeLike = np.float32,
        timeout: float | None = None,
    ) -> Generated:
        """As `Model.sample`."""
        return await self._run(
            self._connection.vae.Sample,
            timeout,
            lambda info: _requests.sample(
                info,
                self.version or 0,
                n,
                seed=seed,
                temperature=temperature,
                first_row=first_row,
                latents=latents,
                dtype=dtype,
            ),
        )

    async def decode(
        self,
        z: npt.ArrayLike,
        *,
        dtype: npt.DTypeLike = np.float32,
        timeout: float | None = None,
    ) -> Array:
        """As `Model.decode`."""
        return await self._run(
            self._connection.vae.Decode,
            timeout,
            lambda info: _requests.decode(info, self.version or 0, z, dtype=dtype),
        )

    async def reconstruct(
        self,
        x: PictureLike,
        *,
        draw: bool = False,
        seed: int | None = None,
        first_row: int = 0,
        dtype: npt.DTypeLike = np.float32,
        timeout: float | None = None,
    ) -> Array:
        """As `Model.reconstruct`."""
        return await self._run(
            self._connection.vae.Reconstruct,
            timeout,
            lambda info: _requests.reconstruct(
                info, self.version or 0, x, draw=draw, seed=seed, first_row=first_row, dtype=dtype
            ),
        )

    async def interpolate(
        self,
        start: PictureLike,
        end: PictureLike,
        *,
        steps: int = 8,
        path: str = "lerp",
        latents: bool = False,
        dtype: npt.DTypeLike = np.float32,
        timeout: float | None = None,
    ) -> Generated:
        """As `Model.interpolate`."""
        return await self._run(
            self._connection.vae.Interpolate,
            timeout,
            lambda info: _requests.interpolate(
                info,
                self.version or 0,
                start,
                end,
                steps=steps,
                path=path,
                latents=latents,
                dtype=dtype,
            ),
        )

    def encode_stream(
        self,
        batches: Iterable[PictureLike] | AsyncIterable[PictureLike],
        *,
        draws: int = 0,
        seed: int | None = None,
        first_row: int = 0,
        timeout: float | None = None,
    ) -> AsyncGenerator[Posterior, None]:
        """As `Model.encode_stream`; the batches may be awaited too."""

        async def plans(info: ModelInfo) -> AsyncIterator[EncodePlan]:
            plan_for = encode_planner(
                info, self.version or 0, draws=draws, seed=seed, first_row=first_row
            )
            async for x in each(batches):
                yield plan_for(x)

        return self._stream(self._connection.vae.Encode, timeout, plans)

    def decode_stream(
        self,
        batches: Iterable[npt.ArrayLike] | AsyncIterable[npt.ArrayLike],
        *,
        dtype: npt.DTypeLike = np.float32,
        timeout: float | None = None,
    ) -> AsyncGenerator[Array, None]:
        """As `Model.decode_stream`; the batches may be awaited too."""

        async def plans(info: ModelInfo) -> AsyncIterator[DecodePlan]:
            async for z in each(batches):
                yield _requests.decode(info, self.version or 0, z, dtype=dtype)

        return self._stream(self._connection.vae.Decode, timeout, plans)

    def sample_stream(
        self,
        n: int,
        *,
        seed: int | None = None,
        temperature: float = 1.0,
        first_row: int = 0,
        latents: bool = False,
        dtype: npt.DTypeLike = np.float32,
        timeout: float | None = None,
    ) -> AsyncGenerator[Generated, None]:
        """As `Model.sample_stream`."""
        return self._stream(
            self._connection.vae.Sample,
            timeout,
            lambda info: each(
                sample_plans(
                    info,
                    self.version or 0,
                    n,
                    seed=seed,
                    first_row=first_row,
                    temperature=temperature,
                    latents=latents,
                    dtype=dtype,
                )
            ),
        )

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
        began, batches = time.monotonic(), asked()
        try:
            plan = plan_for(info)
            replies = await self._send_all(method, plan, deadline, batches)
        except (InvalidInput, NotFound):
            self._info = None  # perhaps another version is served by now: look again next time
            raise
        if replies[-1].version != info.version:
            self._info = None
        result = plan.join(replies)
        return result if batches is None else with_latency(result, began, batches)

    async def _send_all(
        self,
        method: "aio.UnaryUnaryMultiCallable[RequestT, ReplyT]",
        plan: Plan[RequestT, ReplyT, ResultT],
        deadline: float,
        batches: list[BatchTime] | None,
    ) -> Sequence[ReplyT]:
        """Send the parts; the first failure, or a cancel, ends those still under way."""

        async def send(part: range) -> ReplyT:
            return await self._connection.call(method, plan.build(part), deadline, batches)

        if len(plan.parts) == 1:  # as most calls are; a task would cost more than all else here
            return [await send(plan.parts[0])]
        async with aclosing(in_order_awaited(send, each(plan.parts))) as replies:
            return [reply async for reply in replies]

    async def _stream(
        self,
        method: "aio.UnaryUnaryMultiCallable[RequestT, ReplyT]",
        timeout: float | None,
        plans_for: Callable[[ModelInfo], AsyncIterable[Plan[RequestT, ReplyT, ResultT]]],
    ) -> AsyncGenerator[ResultT, None]:
        """As `Model._stream`."""
        info = await self._info_by(self._connection.deadline(timeout))

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
>>>>>>> sdk
