"""Several replicas behind one name: who gets the calls, and that none is lost."""

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.servers import make_app, running_app
from vaeserve import AsyncClient, Client, Unavailable
from vaeserve_server.app import App

SAMPLE = 'grpc_method="Sample",grpc_service="vaeserve.v1.VaeService",grpc_type="unary"'


def calls_of(app: App) -> int:
    """Sample calls that reached a server, whatever it said."""
    started = f"grpc_server_started_total{{{SAMPLE}}}"
    label = {"grpc_method": "Sample", "grpc_service": "vaeserve.v1.VaeService"}
    label["grpc_type"] = "unary"
    app.metrics.exposition()  # settles what is kept to be counted in bulk
    value = app.metrics.registry.get_sample_value(started.partition("{")[0], label)
    return int(value or 0)


def name_of(*apps: App) -> str:
    """A target with several addresses, as a headless service's name has."""
    return "ipv4:" + ",".join(f"127.0.0.1:{app.port}" for app in apps)


@contextmanager
def loading_app(repository: Path) -> Iterator[App]:
    """A server that listens and has loaded nothing yet."""
    app = make_app(repository)
    app._listen()
    try:
        yield app
    finally:
        app.stop(grace_s=0)


def test_a_replica_that_loads_gets_no_call(own_repository: Path) -> None:
    with running_app(own_repository) as ready, loading_app(own_repository) as loading:
        with Client(name_of(loading, ready)) as client:
            digits = client.model("digits")
            for _ in range(20):
                digits.sample(1)
        assert calls_of(ready) == 20
        assert calls_of(loading) == 0


def test_a_replica_that_leaves_loses_no_call(own_repository: Path) -> None:
    leaving = make_app(own_repository, drain_delay_s=0.5)
    leaving.start()
    with running_app(own_repository) as staying:
        target, stop = name_of(leaving, staying), threading.Event()

        def work(_: int) -> int:
            calls = 0
            with Client(target) as client:
                digits = client.model("digits")
                while not stop.is_set():
                    digits.sample(1)
                    calls += 1
            return calls

        with ThreadPoolExecutor(4) as pool:
            jobs = [pool.submit(work, number) for number in range(4)]
            wait_until(lambda: calls_of(leaving) > 20 and calls_of(staying) > 20)
            leaving.drain()
            before = calls_of(staying)
            wait_until(lambda: calls_of(staying) > before + 20)
            stop.set()
            made = sum(job.result() for job in jobs)
        # All were answered, and none had to be sent a second time.
        assert calls_of(leaving) + calls_of(staying) == made


async def test_where_none_is_ready_the_server_says_why(own_repository: Path) -> None:
    with loading_app(own_repository) as loading:
        with Client(name_of(loading), retries=1) as client:
            with pytest.raises(Unavailable) as caught:
                client.model("digits").sample(1)
            assert caught.value.reason == "LOADING"
        async with AsyncClient(name_of(loading), retries=1) as other:
            with pytest.raises(Unavailable) as caught:
                await other.model("digits").sample(1)
            assert caught.value.reason == "LOADING"


async def test_a_server_with_one_broken_model_serves_the_others(own_repository: Path) -> None:
    shutil.copytree(own_repository / "digits", own_repository / "broken")
    (own_repository / "broken" / "1" / "encoder.onnx").write_bytes(b"no graph")
    with running_app(own_repository) as app:
        with Client(name_of(app)) as client:
            assert {state.name: state.ready for state in client.models()}["broken"] is False
            assert len(client.model("digits").sample(2)) == 2
        async with AsyncClient(name_of(app)) as other:
            assert len(await other.model("digits").sample(2)) == 2


@pytest.mark.parametrize("form", ["localhost:{}", "dns:///localhost:{}", "127.0.0.1:{}"])
def test_a_name_is_looked_up_with_and_without_its_scheme(address: str, form: str) -> None:
    port = address.rpartition(":")[2]
    with Client(form.format(port)) as client:
        assert len(client.model("digits").sample(1)) == 1


def wait_until(holds: Callable[[], bool]) -> None:
    for _ in range(3000):
        if holds():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it never held")
