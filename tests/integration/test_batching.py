"""Many callers at once: each gets its own rows, and they shared batches."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from support.servers import held_engines, running_app, series, wait_for
from vaeserve import Client, Overloaded
from vaeserve_server.app import App

CALLERS = 64
GRAPH = 'graph="encoder",model="digits"'


@pytest.fixture(scope="module")
def threaded(repository: Path) -> Iterator[App]:
    """A server whose transport goes on while its engines are held."""
    with running_app(repository, placement="thread") as running:
        yield running


@settings(max_examples=8, deadline=None)
@given(sizes=st.lists(st.integers(1, 40), min_size=CALLERS, max_size=CALLERS))
def test_64_callers_get_their_own_rows(threaded: App, sizes: list[int]) -> None:
    with Client(f"127.0.0.1:{threaded.port}") as client:
        check_64_callers(threaded, client, sizes)


def check_64_callers(app: App, client: Client, sizes: list[int]) -> None:
    model = client.model("digits")
    rng = np.random.default_rng(sum(sizes))
    rows = [rng.random((size, 1, 8, 8), np.float32) for size in sizes]
    alone = model.encode(np.concatenate(rows)).mu
    before = series(app)
    with ThreadPoolExecutor(CALLERS) as pool, held_engines() as engines:
        # One caller's run is held until all the others wait for their batches.
        first = pool.submit(model.encode, rows[0])
        engines.wait_for_a_run()
        others = [pool.submit(model.encode, own) for own in rows[1:]]
        wait_for(app, f"vaeserve_queue_rows{{{GRAPH}}}", sum(sizes[1:]))
        assert series(app)[f"vaeserve_in_flight{{{GRAPH}}}"] == CALLERS
        engines.release()
        answers = [answer.result(30).mu for answer in [first, *others]]
    np.testing.assert_array_equal(np.concatenate(answers), alone)
    after = series(app)
    batches, batched = (
        after[f"vaeserve_batch_rows_{part}{{{GRAPH}}}"]
        - before[f"vaeserve_batch_rows_{part}{{{GRAPH}}}"]
        for part in ("count", "sum")
    )
    assert batched == sum(sizes)
    # Greedy filling leaves every two neighbouring batches over 256 rows in all.
    assert batches <= 2 + 2 * sum(sizes) / 256


def test_gauges_return_to_zero(app: App, client: Client) -> None:
    model = client.model("digits")
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda seed: model.sample(3, seed=seed), range(64)))
    for name in series(app):
        if name.startswith(("vaeserve_queue_rows{", "vaeserve_in_flight{")):
            wait_for(app, name, 0)


def test_a_full_queue_is_refused_with_the_time_to_come_back(repository: Path) -> None:
    with (
        running_app(repository, max_rows=4, max_queue_rows=4, placement="thread") as app,
        Client(f"127.0.0.1:{app.port}", retries=0) as client,
        ThreadPoolExecutor(CALLERS) as pool,
    ):
        model = client.model("digits")
        _ = model.info
        x = np.zeros((4, 1, 8, 8), np.float32)

        def call(_: int) -> Overloaded | None:
            try:
                model.encode(x)
            except Overloaded as refusal:
                return refusal
            return None

        refusals = [refusal for refusal in pool.map(call, range(600)) if refusal is not None]
        assert refusals, "the queue was never full"
        for refusal in refusals:
            assert refusal.reason == "QUEUE_FULL"
            assert refusal.retry_after is not None
            assert refusal.retry_after > 0
        rejected = series(app)[
            'vaeserve_rejected_total{graph="encoder",model="digits",reason="QUEUE_FULL"}'
        ]
        assert rejected == len(refusals)
        assert model.encode(x).mu.shape == (4, 20)


@pytest.mark.parametrize("rows", [1, 255, 256, 257, 600])
def test_any_number_of_rows_is_the_same_to_the_caller(client: Client, rows: int) -> None:
    model = client.model("digits")
    x = np.random.default_rng(rows).random((rows, 1, 8, 8), np.float32)
    whole = model.encode(x).mu
    assert whole.shape == (rows, 20)
    np.testing.assert_array_equal(whole[-1:], model.encode(x[-1:]).mu)
