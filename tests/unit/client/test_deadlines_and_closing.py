"""Time that runs out, clients that are closed under a call, and repeats of large requests."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

import vaeserve
from unit.client.command_line import vaeserve as vaeserve_command
from unit.client.held_server import Held
from unit.client.scripted_model import pictures
from unit.client.scripted_server import Failure, Script, serving
from vaeserve import AsyncClient, Client, _channel
from vaeserve.v1 import vae_service_pb2 as pb

FULL = grpc.StatusCode.RESOURCE_EXHAUSTED


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came")


def test_large_requests_are_repeated_too(connect: Any) -> None:
    with serving(Script(max_rows=10**6)) as script:
        script.failures.extend([Failure(grpc.StatusCode.UNAVAILABLE, "LOADING")] * 2)
        x = pictures(20_000)  # 480 kB
        assert len(connect(script.address).model("digits").encode(x)) == 20_000
        assert len(script.sent(pb.EncodeRequest)) == 3


def test_a_server_that_comes_back_is_found_within_seconds() -> None:
    assert dict(_channel._options({}))["grpc.max_reconnect_backoff_ms"] == 2000


@pytest.mark.parametrize(
    ("command", "rest"),
    [
        ("models", ()),
        ("encode", ("FILE",)),
        ("decode", ("FILE",)),
        ("sample", ("-n", 1)),
        ("reconstruct", ("FILE",)),
        ("interpolate", ("FILE", "FILE")),
        ("edit", ("FILE", "smile=1")),
        ("score", ("FILE",)),
    ],
)
def test_every_command_waits_as_long_as_it_is_told(
    script: Script, tmp_path: Path, command: str, rest: tuple[object, ...]
) -> None:
    latents = np.zeros((1, 4), np.float32)
    np.save(tmp_path / "x.npy", latents if command == "decode" else pictures(1))
    words = [tmp_path / "x.npy" if word == "FILE" else word for word in rest]
    for option, seconds in (((), 30), (("--timeout", 5), 5)):
        script.timeouts.clear()
        done = vaeserve_command(command, script.address, *words, "--json", *option)
        assert done.exit_code == 0, done.output
        assert script.timeouts == pytest.approx([seconds] * len(script.timeouts), abs=1)
        assert script.timeouts


def test_a_command_says_that_its_time_is_over(held: Held) -> None:
    call = ("sample", held.address, "--model", "digits", "--json", "--timeout")
    done = vaeserve_command(*call, 0.2)
    text = f"DEADLINE_EXCEEDED: no answer from {held.address} within the timeout"
    assert (done.exit_code, done.output) == (
        1,
        f"Error: {text}; --timeout SECONDS allows more\n",
    )
    for nothing in (0, -1, "soon"):
        assert vaeserve_command(*call, nothing).exit_code == 2


def test_an_expired_deadline_sends_nothing(client: Client, script: Script) -> None:
    digits = client.model("digits")
    digits.sample(1)
    with pytest.raises(vaeserve.DeadlineExceeded, match="before the request was sent"):
        digits.sample(1, timeout=0)
    assert len(script.sent(pb.SampleRequest)) == 1


@pytest.mark.parametrize("timeout", [1e12, float("inf")])
def test_a_very_long_timeout_is_one(client: Client, timeout: float) -> None:
    assert len(client.model("digits").sample(1, timeout=timeout)) == 1


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("-inf")])
def test_timeouts_that_mean_nothing(client: Client, script: Script, timeout: float) -> None:
    with pytest.raises(vaeserve.InvalidInput, match="timeout"):
        client.model("digits").sample(1, timeout=timeout)
    assert script.requests == []


def test_the_wait_for_another_calls_info_has_a_deadline(held: Held) -> None:
    with Client(held.address) as client:
        digits = client.model("digits")
        other = threading.Thread(target=lambda: digits.sample(1))
        other.start()
        assert held.arrived.wait(10)
        began = time.monotonic()
        with pytest.raises(vaeserve.DeadlineExceeded, match="another call"):
            digits.sample(1, timeout=0.1)
        assert time.monotonic() - began < 5
        held.answer.set()
        other.join(10)
        assert len(digits.sample(1)) == 1


async def test_the_wait_for_another_tasks_info_has_a_deadline(held: Held) -> None:
    async with AsyncClient(held.address) as client:
        digits = client.model("digits")
        other = asyncio.create_task(digits.sample(1))
        await until(held.arrived.is_set)
        with pytest.raises(vaeserve.DeadlineExceeded, match="another call"):
            await digits.sample(1, timeout=0.1)
        held.answer.set()
        assert len(await other) == 1
        assert len(await digits.sample(1)) == 1


async def test_aclose_ends_a_call_under_way(held: Held) -> None:
    client = AsyncClient(held.address)
    call = asyncio.create_task(client.model("digits").sample(1))
    await until(held.arrived.is_set)
    await client.aclose()
    with pytest.raises(vaeserve.ClientClosed):
        await call


async def test_a_cancelled_task_is_cancelled_even_amid_aclose(held: Held) -> None:
    client = AsyncClient(held.address)
    call = asyncio.create_task(client.model("digits").sample(1))
    await until(held.arrived.is_set)
    call.cancel()
    await client.aclose()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_a_cancelled_task_is_cancelled_on_the_server_too(held: Held) -> None:
    async with AsyncClient(held.address) as client:
        call = asyncio.create_task(client.model("digits").sample(1))
        await until(held.arrived.is_set)
        assert not held.gone.is_set()
        call.cancel()
        await until(held.gone.is_set)  # while the connection stands
        with pytest.raises(asyncio.CancelledError):
            await call


def test_a_closed_client_ends_its_calls_on_the_server_too(held: Held) -> None:
    client = Client(held.address)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.model("digits").sample, 1)
        assert held.arrived.wait(10)
        assert not held.gone.is_set()
        client.close()
        assert held.gone.wait(10)
        with pytest.raises(vaeserve.ClientClosed):
            call.result(10)


async def test_aclose_ends_the_wait_for_a_full_queue(script: Script) -> None:
    client = AsyncClient(script.address)
    script.failures.append(Failure(FULL, "QUEUE_FULL", retry_after=20))
    call = asyncio.create_task(client.model("digits").sample(1))
    await until(lambda: bool(script.sent(pb.SampleRequest)) and not script.failures)
    await asyncio.sleep(0.2)  # the refusal is on its way back
    began = time.monotonic()
    await client.aclose()
    with pytest.raises(vaeserve.ClientClosed):
        await call
    assert time.monotonic() - began < 10


def test_calls_that_race_with_close_say_closed(script: Script) -> None:
    ends: Counter[type[BaseException]] = Counter()

    def call_until_closed(digits: vaeserve.Model) -> None:
        try:
            while True:
                digits.sample(1)
        except Exception as exc:  # noqa: BLE001  counted
            ends[type(exc)] += 1

    for _ in range(20):
        client = Client(script.address)
        digits = client.model("digits")
        assert digits.info.name == "digits"
        threads = [threading.Thread(target=call_until_closed, args=(digits,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        time.sleep(0.01)
        client.close()
        for thread in threads:
            thread.join(10)
    assert ends == {vaeserve.ClientClosed: 120}


def test_a_channel_closed_between_check_and_call_is_closed(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(script.address)
    digits = client.model("digits")
    assert digits.info.name == "digits"

    def close_late(deadline: float) -> float:
        client.close()
        return deadline - time.monotonic()

    monkeypatch.setattr("vaeserve._connection.time_left", close_late)
    with pytest.raises(vaeserve.ClientClosed):
        digits.sample(1)


async def test_the_first_failed_part_cancels_the_others(script: Script) -> None:
    answer = threading.Event()
    script.max_rows = 1

    def fail_the_first(request: Any) -> None:
        if request.first_row == 0:
            script.failures.append(Failure(grpc.StatusCode.INTERNAL, "INTERNAL"))
        else:
            answer.wait(10)

    script.before = fail_the_first
    async with AsyncClient(script.address) as client:
        digits = client.model("digits")
        await digits.info()
        began = time.monotonic()
        with pytest.raises(vaeserve.InternalError):
            await digits.sample(50)
        assert time.monotonic() - began < 5  # does not wait for those that hang
        assert asyncio.all_tasks() == {asyncio.current_task()}
    answer.set()
    assert len(script.sent(pb.SampleRequest)) < 50  # the rest was never sent
