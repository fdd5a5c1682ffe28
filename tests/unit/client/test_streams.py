"""Streams of either client: the rows of one call, in order, a few requests at a time."""

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count, islice
from typing import Any

import grpc
import numpy as np
import pytest

import vaeserve
from unit.client.scripted_model import INPUT_SHAPE
from unit.client.scripted_server import Failure, Script, serving
from vaeserve import AsyncClient, Client, InvalidInput, VersionChanged
from vaeserve.v1 import vae_service_pb2 as pb

MOST_AHEAD = 4


def batches(number: int, rows: int = 5) -> list[Any]:
    return list(np.random.default_rng(0).random((number, rows, *INPUT_SHAPE), np.float32))


Collect = Callable[..., list[Any]]


@pytest.fixture(params=["blocking", "asyncio"])
def collect(request: pytest.FixtureRequest, script: Script) -> Collect:
    """Calls a stream of `digits` by its name, and returns all that it yields."""
    if request.param == "blocking":

        def blocking(name: str, *args: Any, **options: Any) -> list[Any]:
            with Client(script.address) as client:
                return list(getattr(client.model("digits"), name)(*args, **options))

        return blocking

    def awaited(name: str, *args: Any, **options: Any) -> list[Any]:
        import asyncio

        async def run() -> list[Any]:
            async with AsyncClient(script.address) as client:
                stream = getattr(client.model("digits"), name)(*args, **options)
                return [result async for result in stream]

        return asyncio.run(run())

    return awaited


def test_batches_are_rows_of_one_call(collect: Collect, client: Client, script: Script) -> None:
    script.max_rows = 3  # every batch is two requests
    parts = batches(7)
    streamed = collect("encode_stream", iter(parts), draws=2, seed=5, first_row=100)
    whole = client.model("digits").encode(np.concatenate(parts), draws=2, seed=5, first_row=100)
    assert [len(posterior) for posterior in streamed] == [5] * 7
    assert [posterior.first_row for posterior in streamed] == list(range(100, 135, 5))
    np.testing.assert_array_equal(np.concatenate([p.mu for p in streamed]), whole.mu)
    np.testing.assert_array_equal(np.concatenate([p.draws for p in streamed]), whole.draws)
    decoded = collect("decode_stream", (posterior.mu for posterior in streamed))
    again = client.model("digits").decode(whole.mu)
    np.testing.assert_array_equal(np.concatenate(decoded), again)


def test_samples_are_those_of_one_call(collect: Collect, client: Client, script: Script) -> None:
    script.max_rows = 4
    streamed = collect("sample_stream", 10, seed=3, first_row=7, latents=True, dtype=np.uint8)
    whole = client.model("digits").sample(10, seed=3, first_row=7, latents=True, dtype=np.uint8)
    assert [len(drawn) for drawn in streamed] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate([d.pictures for d in streamed]), whole.pictures)
    np.testing.assert_array_equal(np.concatenate([d.latents for d in streamed]), whole.latents)
    assert {drawn.seed for drawn in streamed} == {3}


@pytest.mark.parametrize("first_row", [np.uint8(250), np.int16(32760)])
def test_numpy_numbers_do_not_wrap(
    collect: Collect, client: Client, script: Script, first_row: Any
) -> None:
    digits, plain = client.model("digits"), int(first_row)
    drawn = collect("sample_stream", 20, seed=3, first_row=first_row)
    whole = digits.sample(20, seed=3, first_row=plain)
    np.testing.assert_array_equal(np.concatenate([d.pictures for d in drawn]), whole.pictures)
    streamed = collect("encode_stream", batches(3), draws=1, seed=5, first_row=first_row)
    encoded = digits.encode(np.concatenate(batches(3)), draws=1, seed=5, first_row=plain)
    np.testing.assert_array_equal(np.concatenate([p.draws for p in streamed]), encoded.draws)
    assert [posterior.first_row for posterior in streamed] == [plain, plain + 5, plain + 10]


def test_a_fresh_seed_is_one_for_all(collect: Collect, script: Script) -> None:
    script.max_rows = 4
    assert len({drawn.seed for drawn in collect("sample_stream", 9)}) == 1
    assert len({p.seed for p in collect("encode_stream", batches(3), draws=1)}) == 1


def test_no_more_is_taken_than_there_is_room_for(client: Client, script: Script) -> None:
    taken = []

    def endless() -> Iterator[Any]:
        for number in count():
            taken.append(number)
            yield batches(1)[0]

    with Client(script.address) as blocking:
        stream = blocking.model("digits").encode_stream(endless())
        for number, _ in enumerate(islice(stream, 20), 1):
            assert len(taken) <= number + MOST_AHEAD
        stream.close()
    assert len(script.sent(pb.EncodeRequest)) <= 20 + MOST_AHEAD


async def test_awaited_batches_are_taken_as_there_is_room(script: Script) -> None:
    taken = []

    async def endless() -> AsyncIterator[Any]:
        for number in count():
            taken.append(number)
            yield batches(1)[0]

    async with AsyncClient(script.address) as client:
        stream = client.model("digits").encode_stream(endless())
        results = 0
        async for _ in stream:
            results += 1
            assert len(taken) <= results + MOST_AHEAD
            if results == 20:
                break
        await stream.aclose()


def test_a_failure_comes_in_its_turn(collect: Collect, script: Script) -> None:
    # First, for a call that the other stream leaves behind would meet it.
    script.failures.append(Failure(grpc.StatusCode.INVALID_ARGUMENT, "NOT_FINITE"))
    with pytest.raises(InvalidInput, match="NOT_FINITE"):
        collect("encode_stream", batches(9))
    seen = []

    def some() -> Iterator[Any]:
        yield from batches(2)
        seen.append("two")
        yield np.zeros((1, 9, 9), np.float32)

    with pytest.raises(InvalidInput, match="takes input rows of shape"):
        collect("encode_stream", some())
    assert seen == ["two"]


def test_a_part_is_repeated_by_itself(collect: Collect, script: Script) -> None:
    script.failures.extend(
        [
            Failure(grpc.StatusCode.UNAVAILABLE, "DRAINING"),
            Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL", retry_after=0.01),
        ]
    )
    assert len(collect("encode_stream", batches(6))) == 6
    assert len(script.sent(pb.EncodeRequest)) == 8


def test_another_version_ends_the_stream(script: Script) -> None:
    with Client(script.address) as client:
        stream = client.model("digits").encode_stream(batches(20))
        next(stream)
        script.version += 1
        with pytest.raises(VersionChanged, match="version 3 answered first, now 4"):
            list(stream)


class _HeldFromTheThird(Script):
    """Keeps every batch of five but the first two waiting until `answer` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived, self.gone = threading.Semaphore(0), threading.Semaphore(0)
        self.answer = threading.Event()

    def Encode(self, request: Any, context: Any) -> Any:  # noqa: N802
        if request.first_row >= 10:
            context.add_callback(self.gone.release)
            self.arrived.release()
            self.answer.wait(10)
        return super().Encode(request, context)


def test_a_closed_stream_cancels_what_is_under_way() -> None:
    with serving(_HeldFromTheThird()) as script:
        assert isinstance(script, _HeldFromTheThird)
        with Client(script.address, timeout=30) as client:
            stream = client.model("digits").encode_stream(batches(20), draws=1)
            next(stream), next(stream)
            assert script.arrived.acquire(timeout=10)
            assert not script.gone.acquire(blocking=False)
            stream.close()
            assert script.gone.acquire(timeout=10)  # while the connection stands
            script.answer.set()
        assert len(script.sent(pb.EncodeRequest)) <= 2 + MOST_AHEAD


def test_a_wrong_number_is_said_before_anything_is_sent(collect: Collect, script: Script) -> None:
    with pytest.raises(InvalidInput, match="n must be at least 1"):
        collect("sample_stream", 0)
    assert script.sent(pb.SampleRequest) == []


def test_a_stream_of_a_closed_client_says_so(script: Script) -> None:
    client = Client(script.address)
    stream = client.model("digits").sample_stream(100)
    next(stream)
    client.close()
    with pytest.raises(vaeserve.ClientClosed):
        list(stream)
