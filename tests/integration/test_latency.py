"""Where a call's time went, as the real server tells it to either client."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import vaeserve
from support.servers import held_engines, wait_for
from vaeserve import AsyncClient, Client, Latency
from vaeserve_server.app import App

X = np.random.default_rng(0).random((3, 1, 8, 8), np.float32)


async def test_every_call_within_is_noted_and_others_are_not(client: Client, address: str) -> None:
    digits = client.model("digits")
    with vaeserve.timed() as calls:
        posterior = digits.encode(X)
        digits.decode(posterior.mu)
        drawn = digits.sample(2, seed=1)
        score = digits.score(X)
    assert score.latency is calls.pop()
    assert [[batch.graph for batch in call.batches] for call in calls] == [
        ["digits-encoder"],
        ["digits-decoder"],
        ["digits-decoder"],
    ]
    assert posterior.latency is calls[0]
    assert drawn.latency is calls[2]
    assert digits.encode(X).latency is None
    assert len(calls) == 3
    async with AsyncClient(address) as other:
        with vaeserve.timed() as awaited:
            encoded, _ = await asyncio.gather(
                other.model("digits").encode(X), other.model("digits").reconstruct(X)
            )
    assert sorted(len(call.batches) for call in awaited) == [1, 2]
    assert encoded.latency in awaited


@pytest.mark.parametrize("transport", ["lane", "standard"])
def test_the_wait_for_a_busy_engine_is_told_from_the_run(patient: App) -> None:
    with Client(f"127.0.0.1:{patient.port}") as client, ThreadPoolExecutor(2) as pool:
        digits = client.model("digits")
        digits.encode(X)
        with held_engines() as held:

            def call() -> Latency:
                with vaeserve.timed() as calls:
                    digits.encode(X)
                return calls[0]

            first = pool.submit(call)
            held.wait_for_a_run()
            second = pool.submit(call)
            wait_for(patient, 'vaeserve_queue_rows{graph="encoder",model="digits"}', 3)
            time.sleep(0.05)  # what the second one waits
            held.release()
            latencies = [first.result(), second.result()]
    assert latencies[0].run >= 0.05
    assert latencies[1].queue >= 0.05
    for latency in latencies:
        (batch,) = latency.batches
        assert batch.rows in {3, 6}
        assert batch.close_reason in {"idle", "full"}
        assert 0 < latency.run <= latency.total
        assert latency.total == pytest.approx(latency.queue + latency.run + latency.network)


def test_a_split_call_is_one_entry_with_all_its_batches(client: Client) -> None:
    digits = client.model("digits")
    rows = 3 * digits.info.limits.max_rows
    with vaeserve.timed() as calls:
        digits.sample(rows, seed=1)
    (call,) = calls
    assert sum(batch.rows for batch in call.batches) >= rows
    assert repr(call).startswith("<Latency ")


def test_a_thread_has_a_context_of_its_own(client: Client) -> None:
    digits = client.model("digits")
    with vaeserve.timed() as calls, ThreadPoolExecutor(1) as pool:
        assert pool.submit(digits.encode, X).result().latency is None
    assert calls == []
