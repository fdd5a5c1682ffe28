"""A seed stands for the same bits: alone, in company, in parts, after a restart."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from support.servers import running_app
from vaeserve import Client

CALLERS = 32

Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def x() -> Floats:
    return np.random.default_rng(0).random((40, 1, 8, 8), np.float32)


@contextmanager
def company(address: str) -> Iterator[None]:
    """Keep 32 other callers at work meanwhile, in requests of many sizes."""
    stop = threading.Event()
    begun = threading.Barrier(CALLERS + 1)

    def work(number: int) -> int:
        rng = np.random.default_rng(number)
        calls = 0
        with Client(address) as client:
            model = client.model("digits")
            while not stop.is_set():
                rows = int(rng.integers(1, 17))
                model.sample(rows, seed=number)
                model.encode(rng.random((rows, 1, 8, 8), np.float32))
                if not calls:
                    begun.wait(30)
                calls += 1
        return calls

    with ThreadPoolExecutor(CALLERS) as pool:
        jobs = [pool.submit(work, number) for number in range(CALLERS)]
        begun.wait(30)
        try:
            yield
        finally:
            stop.set()
        assert all(job.result() >= 1 for job in jobs)


def test_the_first_ten_of_a_hundred_are_the_ten(client: Client) -> None:
    model = client.model("digits")
    hundred = model.sample(100, seed=7, latents=True)
    ten = model.sample(10, seed=7, latents=True)
    np.testing.assert_array_equal(hundred[:10], ten)
    assert hundred.latents is not None
    assert ten.latents is not None
    np.testing.assert_array_equal(hundred.latents[:10], ten.latents)
    assert not np.array_equal(ten, model.sample(10, seed=8))


def test_a_later_request_continues_an_earlier_one(client: Client) -> None:
    model = client.model("digits")
    parts = [model.sample(n, seed=7, first_row=first) for first, n in ((0, 3), (3, 30), (33, 7))]
    np.testing.assert_array_equal(np.concatenate(parts), model.sample(40, seed=7))


def test_draws_of_the_posterior(client: Client, x: Floats) -> None:
    model = client.model("digits")
    whole = model.encode(x, draws=4, seed=7)
    assert whole.draws is not None
    fewer = model.encode(x[:10], draws=2, seed=7)
    np.testing.assert_array_equal(whole.draws[:10, :2], fewer.draws)
    later = model.encode(x[25:], draws=4, seed=7, first_row=25)
    np.testing.assert_array_equal(whole.draws[25:], later.draws)
    local = model.encode(x)
    np.testing.assert_array_equal(local.sample(seed=7, n=4), whole.draws)


def test_company_changes_nothing(client: Client, address: str, x: Floats) -> None:
    model = client.model("digits")
    samples = model.sample(100, seed=7)
    draws = model.encode(x, draws=2, seed=7).draws
    mu = model.encode(x).mu
    scored = model.score(x, draws=20, seed=7).importance_weighted
    fitted = model.sample(100, seed=7, prior="fitted")
    edited = model.edit(x, {"smile": 1.0}, preserve=["hat"])
    assert scored is not None
    with company(address):
        for _ in range(10):
            np.testing.assert_array_equal(model.sample(10, seed=7), samples[:10])
            np.testing.assert_array_equal(model.encode(x, draws=2, seed=7).draws, draws)
            np.testing.assert_array_equal(model.encode(x[:1]).mu, mu[:1])
            part = model.score(x[3:5], draws=20, seed=7, first_row=3).importance_weighted
            np.testing.assert_array_equal(part, scored[3:5])
            np.testing.assert_array_equal(model.sample(10, seed=7, prior="fitted"), fitted[:10])
            other = model.edit(x[:1], {"smile": 1.0}, preserve=["hat"])
            np.testing.assert_array_equal(other, edited[:1])


def test_a_split_request_is_the_same_request(repository: Path, x: Floats) -> None:
    with running_app(repository) as one, running_app(repository, max_rows=7) as other:
        answers = []
        for app in (one, other):
            with Client(f"127.0.0.1:{app.port}") as client:
                model = client.model("digits")
                posterior = model.encode(x, draws=2, seed=7)
                drawn = model.reconstruct(x, draw=True, seed=9)
                path = model.interpolate(x[:6], x[6:12], steps=5, path="slerp")
                fitted = model.sample(40, seed=7, prior="fitted")
                edited = model.edit(x, {"smile": 2.0}, preserve=["hat"])
                scored = model.score(x, draws=30, seed=3)
                standard = model.sample(40, seed=7)
                answers.append(
                    (
                        *(posterior.mu, posterior.draws, drawn, path, standard, fitted, edited),
                        *(scored.importance_weighted, scored.percentile),
                    )
                )
        for left, right in zip(*answers, strict=True):
            np.testing.assert_array_equal(np.asarray(left), np.asarray(right))


def test_a_seed_the_service_chose_comes_back(client: Client, x: Floats) -> None:
    model = client.model("digits")
    samples = model.sample(5)
    assert samples.seed is not None
    np.testing.assert_array_equal(samples, model.sample(5, seed=samples.seed))
    posterior = model.encode(x, draws=2)
    assert posterior.seed is not None
    assert posterior.seed != samples.seed
    np.testing.assert_array_equal(
        posterior.draws, model.encode(x, draws=2, seed=posterior.seed).draws
    )
