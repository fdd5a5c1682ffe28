"""Streams whose consumer is slow, and those whose source is: live ones, which wait for results."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import grpc
import pytest

from unit.client.scripted_model import pictures
from unit.client.scripted_server import Failure, Script, serving
from vaeserve import AsyncClient, Client, InvalidInput
from vaeserve.v1 import vae_service_pb2 as pb

TIMEOUT_S = 2.0
BATCHES = 6

REFUSALS = {
    "a full queue": Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL", retry_after=0.01),
    "a server that stops": Failure(grpc.StatusCode.UNAVAILABLE, "DRAINING"),
}


class RefusesTheThirdOnce(Script):
    """Refuses the batch whose first row is 4, once."""

    def __init__(self, failure: Failure) -> None:
        super().__init__()
        self.failure: Failure | None = failure

    def Encode(self, request: Any, context: Any) -> Any:  # noqa: N802
        if request.first_row == 4 and self.failure:
            failure, self.failure = self.failure, None
            context.abort_with_status(failure.status())
        return super().Encode(request, context)


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_slow_consumer_takes_no_time_from_a_repeat(refusal: str) -> None:
    with (
        serving(RefusesTheThirdOnce(REFUSALS[refusal])) as script,
        Client(script.address) as client,
    ):
        batches = [pictures(2)] * BATCHES
        stream = client.model("digits").encode_stream(batches, draws=1, timeout=TIMEOUT_S)
        next(stream)
        time.sleep(TIMEOUT_S + 0.2)  # the third was sent, and refused, long before its turn
        assert len(list(stream)) == BATCHES - 1


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_slow_task_takes_no_time_from_a_repeat(refusal: str) -> None:
    with serving(RefusesTheThirdOnce(REFUSALS[refusal])) as script:
        async with AsyncClient(script.address) as client:
            batches = [pictures(2)] * BATCHES
            stream = client.model("digits").encode_stream(batches, draws=1, timeout=TIMEOUT_S)
            await anext(stream)
            await asyncio.sleep(TIMEOUT_S + 0.2)
            assert len([posterior async for posterior in stream]) == BATCHES - 1


Stream = Callable[[Any, AsyncIterator[Any]], Any]

STREAMS: dict[str, Stream] = {
    "encode": lambda model, source: model.encode_stream(source),
    "decode": lambda model, source: model.decode_stream(source),
}


@pytest.mark.parametrize("name", STREAMS)
async def test_a_live_source_gets_its_result_before_its_next_item(
    script: Script, name: str
) -> None:
    batch = pictures(20) if name == "encode" else pictures(20).reshape(20, -1)[:, :4]
    seen = asyncio.Event()

    async def source() -> AsyncIterator[Any]:
        for _ in range(3):
            seen.clear()
            yield batch  # three requests
            await seen.wait()

    async with AsyncClient(script.address) as client:
        rows = []
        async with asyncio.timeout(10):
            async for result in STREAMS[name](client.model("digits"), source()):
                rows.append(len(result))
                seen.set()
    assert rows == [20, 20, 20]


async def test_a_source_that_fails_has_had_its_results_first(script: Script) -> None:
    async def source() -> AsyncIterator[Any]:
        yield pictures(1)
        yield pictures(2)
        raise OSError("the camera is gone")

    async with AsyncClient(script.address) as client:
        stream = client.model("digits").encode_stream(source())
        assert [len(await anext(stream)), len(await anext(stream))] == [1, 2]
        with pytest.raises(OSError, match="the camera is gone"):
            await anext(stream)


async def test_a_stream_left_early_leaves_no_task_behind(script: Script) -> None:
    ended = asyncio.Event()

    async def source() -> AsyncIterator[Any]:
        try:
            yield pictures(1)
            await asyncio.Event().wait()  # a next item that never comes
        finally:
            ended.set()

    async with AsyncClient(script.address) as client:
        digits = client.model("digits")
        await digits.info()
        before = asyncio.all_tasks()
        async with aclosing(digits.encode_stream(source())) as stream:
            assert len(await anext(stream)) == 1
        assert ended.is_set()
        assert asyncio.all_tasks() == before


async def test_a_failed_answer_ends_the_wait_for_the_next_item(script: Script) -> None:
    script.failures.append(Failure(grpc.StatusCode.INVALID_ARGUMENT, "NOT_FINITE"))
    released = asyncio.Event()

    async def source() -> AsyncIterator[Any]:
        try:
            yield pictures(1)
            await asyncio.Event().wait()
        finally:
            released.set()

    async with AsyncClient(script.address) as client:
        stream = client.model("digits").encode_stream(source())
        with pytest.raises(InvalidInput, match="NOT_FINITE"):
            await asyncio.wait_for(anext(stream), 10)
    assert released.is_set()
    assert len(script.sent(pb.EncodeRequest)) == 1


async def test_a_slow_consumer_is_not_run_ahead_of(script: Script) -> None:
    """The source is asked for no more than fits under way, however long the consumer takes."""
    taken = 0
    fifth = asyncio.Event()
    fourth = threading.Event()

    def before(_: object) -> None:
        if len(script.sent(pb.EncodeRequest)) == 4:
            fourth.set()

    script.before = before

    async def endless() -> AsyncIterator[Any]:
        nonlocal taken
        while True:
            taken += 1
            if taken == 5:
                fifth.set()
            yield pictures(1)

    async with (
        AsyncClient(script.address) as client,
        aclosing(client.model("digits").encode_stream(endless())) as stream,
    ):
        await anext(stream)
        await fifth.wait()
        for _ in range(100):  # the other tasks run as far as they can
            await asyncio.sleep(0)
        assert taken == 5
        # Leaving cancels what has not arrived.
        assert await asyncio.to_thread(fourth.wait, 10)
    assert len(script.sent(pb.EncodeRequest)) == 4
