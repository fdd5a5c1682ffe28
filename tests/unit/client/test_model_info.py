"""What a handle knows of its model: who asks for it again, when, and who waits for that."""

import asyncio
import os
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

from unit.client.held_server import Held
from unit.client.scripted_model import INPUT_SHAPE, pictures
from unit.client.scripted_server import Script, serving
from vaeserve import AsyncClient, Client, InvalidInput, VersionChanged
from vaeserve.v1 import model_service_pb2, vae_service_pb2 as pb

WRONG = np.zeros((1, 9, 9), np.float32)


@pytest.fixture
def held(held: Held) -> Held:
    """It answers at first."""
    held.answer.set()
    return held


def test_one_callers_mistakes_keep_no_other_waiting(held: Held) -> None:
    refusals: list[BaseException] = []

    def err(digits: Any) -> None:
        try:
            digits.encode(WRONG)
        except InvalidInput as exc:
            refusals.append(exc)

    with Client(held.address) as client:
        digits = client.model("digits")
        digits.sample(1)
        held.answer.clear()
        other = threading.Thread(target=err, args=(digits,))
        other.start()
        assert held.arrived.wait(10)
        assert len(digits.sample(1, timeout=5)) == 1
        held.answer.set()
        other.join(10)
    assert len(refusals) == 1


async def test_one_tasks_mistakes_keep_no_other_waiting(held: Held) -> None:
    async with AsyncClient(held.address) as client:
        digits = client.model("digits")
        await digits.sample(1)
        held.answer.clear()
        other = asyncio.create_task(digits.encode(WRONG))
        assert await asyncio.to_thread(held.arrived.wait, 10)
        assert len(await digits.sample(1, timeout=5)) == 1
        held.answer.set()
        with pytest.raises(InvalidInput):
            await other


def test_a_mistake_is_looked_into_once_and_by_its_own_call(client: Client, script: Script) -> None:
    digits = client.model("digits")
    digits.sample(1)
    for number in range(2, 5):
        with pytest.raises(InvalidInput, match="takes input rows of shape"):
            digits.encode(WRONG)
        assert len(script.sent(model_service_pb2.GetModelRequest)) == number
        digits.sample(1)
        assert len(script.sent(model_service_pb2.GetModelRequest)) == number


def test_a_call_that_fits_the_version_served_by_now_succeeds(
    client: Client, script: Script
) -> None:
    script.levels = False
    digits = client.model("digits")
    assert digits.info.preprocessing is None
    levels = np.zeros((2, *INPUT_SHAPE), np.uint8)
    script.version, script.levels = 4, True
    assert digits.encode(levels).version == 4
    assert digits.info.version == 4


def test_a_mistake_is_told_though_no_server_is_left(connect: Any) -> None:
    with serving(Script()) as script:
        digits = connect(script.address, retries=0, timeout=5).model("digits")
        digits.sample(1)
    with pytest.raises(InvalidInput, match="takes input rows of shape"):
        digits.encode(WRONG)


def test_a_mistake_is_told_though_the_server_hangs(held: Held) -> None:
    with Client(held.address, timeout=300) as client:
        digits = client.model("digits")
        digits.sample(1)
        held.answer.clear()
        with pytest.raises(InvalidInput, match="takes input rows of shape"):
            digits.encode(WRONG)
        assert held.arrived.is_set()
        assert not held.gave_in.is_set()


async def test_a_mistake_is_told_to_a_task_though_the_server_hangs(held: Held) -> None:
    async with AsyncClient(held.address, timeout=300) as client:
        digits = client.model("digits")
        await digits.sample(1)
        held.answer.clear()
        with pytest.raises(InvalidInput, match="takes input rows of shape"):
            await digits.encode(WRONG)
        assert held.arrived.is_set()
        assert not held.gave_in.is_set()


def test_a_stream_learns_of_another_version(script: Script) -> None:
    with Client(script.address) as client:
        digits = client.model("digits")
        assert digits.info.version == 3
        script.version = 4
        assert {p.version for p in digits.encode_stream([pictures(2)] * 3)} == {4}
        assert digits.info.version == 4
        stream = digits.encode_stream([pictures(2)] * 20)
        next(stream)
        script.version = 5
        with pytest.raises(VersionChanged):
            list(stream)
        assert digits.info.version == 5


async def test_an_awaited_stream_learns_of_another_version(script: Script) -> None:
    async with AsyncClient(script.address) as client:
        digits = client.model("digits")
        assert (await digits.info()).version == 3
        script.version = 4
        batches = [pictures(2)] * 3
        assert {p.version async for p in digits.encode_stream(batches)} == {4}
        assert (await digits.info()).version == 4


def test_a_stream_that_was_refused_has_looked_again(script: Script) -> None:
    with Client(script.address) as client:
        digits = client.model("digits")
        assert digits.info.limits.max_rows == 8
        script.max_rows = 2
        with pytest.raises(InvalidInput, match="TOO_MANY_ROWS"):
            list(digits.encode_stream([pictures(8)]))
        asked = len(script.sent(model_service_pb2.GetModelRequest))
        (posterior,) = digits.encode_stream([pictures(8)])
        assert len(posterior) == 8
        assert len(script.sent(model_service_pb2.GetModelRequest)) == asked
    assert max(len(r.input.data) for r in script.sent(pb.EncodeRequest)[1:]) == 2 * 24


async def test_an_awaited_stream_that_was_refused_has_looked_again(script: Script) -> None:
    async with AsyncClient(script.address) as client:
        digits = client.model("digits")
        assert (await digits.info()).limits.max_rows == 8
        script.max_rows = 2
        with pytest.raises(InvalidInput, match="TOO_MANY_ROWS"):
            [p async for p in digits.encode_stream([pictures(8)])]
        asked = len(script.sent(model_service_pb2.GetModelRequest))
        assert [len(p) async for p in digits.encode_stream([pictures(8)])] == [8]
        assert len(script.sent(model_service_pb2.GetModelRequest)) == asked


FORKED_AMID_A_FETCH = """
import os, sys, threading, time
from vaeserve import Client, ClientClosed

client = Client(sys.argv[1], timeout=20)
digits = client.model("digits")
other = threading.Thread(target=lambda: digits.info)
other.start()
sys.stdin.readline()  # the server has been asked, and does not answer
child = os.fork()
if child == 0:
    began = time.monotonic()
    try:
        digits.sample(1)
    except ClientClosed as error:
        assert "made before this process was forked" in str(error), error
        os._exit(0 if time.monotonic() - began < 10 else 3)
    os._exit(4)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
sys.stdin.readline()
other.join()
client.close()
"""


def test_a_child_forked_amid_a_fetch_waits_for_nobody(held: Held) -> None:
    held.answer.clear()
    with subprocess.Popen(
        [sys.executable, "-W", "ignore:This process", "-c", FORKED_AMID_A_FETCH, held.address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"GRPC_VERBOSITY": "NONE"},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert held.arrived.wait(20)
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "0\n"
        finally:
            held.answer.set()
            process.communicate("\n", timeout=30)
    assert process.returncode == 0
