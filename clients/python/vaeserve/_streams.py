"""More than one request of a caller under way: large calls, and data larger than memory.

A few requests are under way at a time, their results come in order, and nothing else is held. They
are unary calls and not one gRPC stream: each has its own deadline and is repeated by itself, they
are spread over the replicas, and the loss of one of these costs one part and not the whole.
"""

import asyncio
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
)
from contextlib import aclosing, closing
from typing import Any, Generic, TypeVar

import numpy.typing as npt

from vaeserve import _requests
from vaeserve._connection import Pending
from vaeserve._errors import VersionChanged
from vaeserve._foreign import PictureLike
from vaeserve._info import ModelInfo
from vaeserve._latents import Array
from vaeserve._numbers import whole_number
from vaeserve._plan import Plan, ReplyT, RequestT, ResultT
from vaeserve._results import Generated, Posterior
from vaeserve._seed import seed_or_new
from vaeserve.v1 import noise, vae_service_pb2 as pb

ItemT = TypeVar("ItemT")

_IN_FLIGHT = 4  # more gained nothing where it was measured: docs/sdk.md
_CHUNK_ROWS = 256  # of a server that states no limit


def in_order(
    begin: Callable[[ItemT], Pending[ReplyT]], items: Iterable[ItemT]
) -> Generator[ReplyT, None, None]:
    """Answers in the order of their requests, a few of which are under way.

    The first failure, or the end of the iterator, cancels the others. While the next item is waited
    for, nothing is yielded.

    Args:
        begin: sends the request of an item.
        items: taken one by one, when there is room.
    """
    window: deque[Pending[ReplyT]] = deque()
    try:
        for item in items:
            if len(window) == _IN_FLIGHT:
                yield _first(window)
            window.append(begin(item))
        while window:
            yield _first(window)
    finally:
        for pending in window:
            pending.cancel()


def _first(window: deque[Pending[ReplyT]]) -> ReplyT:
    reply = window[0].answer()
    window.popleft()
    return reply


async def in_order_awaited(
    send: Callable[[ItemT], Coroutine[Any, Any, ReplyT]], items: AsyncIterable[ItemT]
) -> AsyncGenerator[ReplyT, None]:
    """As `in_order`, but for the next item nothing waits: an answer comes when it is there.

    The items are iterated by a task of their own, which ends with this.
    """
    room = asyncio.Semaphore(_IN_FLIGHT)
    window: asyncio.Queue[asyncio.Task[Any]] = asyncio.Queue()

    async def fill() -> None:
        async for item in items:
            await room.acquire()
            window.put_nowait(asyncio.ensure_future(send(item)))

    filling = asyncio.ensure_future(fill())
    filling.add_done_callback(window.put_nowait)  # behind the last request
    try:
        while (oldest := await window.get()) is not filling:
            yield await oldest
            room.release()
        await filling  # raises what the items did
    finally:
        filling.cancel()
        await asyncio.gather(filling, return_exceptions=True)
        left = [window.get_nowait() for _ in range(window.qsize())]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


class _Ahead(Generic[ReplyT, ResultT]):
    """Plans whose answers are under way, and the answers to the first of them.

    Args:
        answered_by: told the version of each answer.
    """

    def __init__(self, answered_by: Callable[[int], object]) -> None:
        self._answered_by = answered_by
        self._plans: deque[Plan[Any, ReplyT, ResultT]] = deque()
        self._replies: list[ReplyT] = []
        self._version: int | None = None

    def add(self, plan: Plan[Any, ReplyT, ResultT]) -> None:
        """Its requests are sent next."""
        self._plans.append(plan)

    def answered(self, reply: ReplyT) -> list[ResultT]:
        """Take the next answer: a result where it was the last of a plan, else nothing.

        Raises:
            VersionChanged: of another version than those before.
        """
        self._answered_by(reply.version)
        if self._version not in {None, reply.version}:
            raise VersionChanged(
                f"version {self._version} answered first, now {reply.version} does; go on with a "
                "new call, or hold on to a version with client.model(name, version=...)"
            )
        self._version = reply.version
        self._replies.append(reply)
        if len(self._replies) < len(self._plans[0].parts):
            return []
        replies, self._replies = self._replies, []
        return [self._plans.popleft().join(replies)]


def results(
    plans: Iterable[Plan[RequestT, ReplyT, ResultT]],
    begin: Callable[[RequestT], Pending[ReplyT]],
    answered_by: Callable[[int], object],
) -> Generator[ResultT, None, None]:
    """One result for each plan, in order; `answered_by` is told the version of each answer."""
    ahead: _Ahead[ReplyT, ResultT] = _Ahead(answered_by)

    def requests() -> Iterator[RequestT]:
        for plan in plans:
            ahead.add(plan)
            yield from map(plan.build, plan.parts)

    with closing(in_order(begin, requests())) as replies:
        for reply in replies:
            yield from ahead.answered(reply)


async def results_awaited(
    plans: AsyncIterable[Plan[RequestT, ReplyT, ResultT]],
    send: Callable[[RequestT], Coroutine[Any, Any, ReplyT]],
    answered_by: Callable[[int], object],
) -> AsyncGenerator[ResultT, None]:
    """As `results`."""
    ahead: _Ahead[ReplyT, ResultT] = _Ahead(answered_by)

    async def requests() -> AsyncIterator[RequestT]:
        async for plan in plans:
            ahead.add(plan)
            for part in plan.parts:
                yield plan.build(part)

    async with aclosing(in_order_awaited(send, requests())) as replies:
        async for reply in replies:
            for result in ahead.answered(reply):
                yield result


DecodePlan = Plan[pb.DecodeRequest, pb.DecodeResponse, Array]
EncodePlan = Plan[pb.EncodeRequest, pb.EncodeResponse, Posterior]
SamplePlan = Plan[pb.SampleRequest, pb.SampleResponse, Generated]


def encode_planner(
    info: ModelInfo, version: int, *, draws: int, seed: int | None, first_row: int
) -> Callable[[PictureLike], EncodePlan]:
    """Plans batch after batch, as one call of all their rows would be; as `Model.encode`."""
    chosen = seed_or_new(seed) if draws else None
    row = whole_number("first_row", first_row, 0, noise.FIRST_ROW_LIMIT)

    def plan_for(x: PictureLike) -> EncodePlan:
        nonlocal row
        plan = _requests.encode(info, version, x, draws=draws, seed=chosen, first_row=row)
        row += sum(map(len, plan.parts))
        return plan

    return plan_for


def sample_plans(
    info: ModelInfo,
    version: int,
    n: int,
    *,
    seed: int | None,
    temperature: float,
    prior: str,
    first_row: int,
    latents: bool,
    dtype: npt.DTypeLike,
) -> Iterator[SamplePlan]:
    """Plans of one request each, as one call for n rows would be cut; as `Model.sample`."""
    n = whole_number("n", n, 1, noise.FIRST_ROW_LIMIT)
    first_row = whole_number("first_row", first_row, 0, noise.FIRST_ROW_LIMIT)
    chosen = seed_or_new(seed)

    def plan(start: int, rows: int) -> SamplePlan:
        return _requests.sample(
            info,
            version,
            rows,
            seed=chosen,
            temperature=temperature,
            prior=prior,
            first_row=first_row + start,
            latents=latents,
            dtype=dtype,
        )

    size = len(plan(0, min(n, info.limits.max_rows or _CHUNK_ROWS)).parts[0])
    for start in range(0, n, size):
        yield plan(start, min(size, n - start))


async def each(items: Iterable[ItemT] | AsyncIterable[ItemT]) -> AsyncGenerator[ItemT, None]:
    """The items of either kind of iterable."""
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
