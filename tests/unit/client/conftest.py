"""Both clients behind one blocking surface, and the scripted server they call."""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from unit.client.held_server import Held
from unit.client.scripted_server import Script, serving
from vaeserve import AsyncClient, AsyncModel, Client

Connect = Callable[..., Client]


class _Awaited:
    """An asyncio object whose coroutines run to their end when called."""

    def __init__(self, runner: asyncio.Runner, target: AsyncClient | AsyncModel) -> None:
        self._runner = runner
        self._target = target

    def __getattr__(self, name: str) -> Any:
        if name == "info":
            return self._call(cast(AsyncModel, self._target).info)
        attribute = getattr(self._target, {"close": "aclose"}.get(name, name))
        if not callable(attribute):
            return attribute
        return lambda *args, **kwargs: self._call(attribute, *args, **kwargs)

    def _call(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        if inspect.iscoroutine(result):
            return self._runner.run(result)
        return _Awaited(self._runner, result)

    def __repr__(self) -> str:
        return repr(self._target)


@pytest.fixture
def script() -> Iterator[Script]:
    with serving(Script()) as running:
        yield running


@pytest.fixture(params=["blocking", "asyncio"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Makes a client of either kind, typed as the blocking one; closed after the test."""
    if request.param == "blocking":
        clients: list[Client] = []

        def connect_blocking(*args: Any, **kwargs: Any) -> Client:
            clients.append(Client(*args, **kwargs))
            return clients[-1]

        yield connect_blocking
        for client in clients:
            client.close()
        return

    with asyncio.Runner() as runner:
        awaited: list[AsyncClient] = []

        async def make(*args: Any, **kwargs: Any) -> AsyncClient:
            awaited.append(AsyncClient(*args, **kwargs))
            return awaited[-1]

        yield lambda *args, **kwargs: cast(
            Client, _Awaited(runner, runner.run(make(*args, **kwargs)))
        )
        for each in awaited:
            runner.run(each.aclose())


@pytest.fixture
def client(connect: Connect, script: Script) -> Client:
    return connect(script.address)


@pytest.fixture
def held() -> Iterator[Held]:
    with serving(Held()) as script:
        assert isinstance(script, Held)
        try:
            yield script
        finally:
            script.answer.set()
