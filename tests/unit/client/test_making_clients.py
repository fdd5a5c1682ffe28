"""What clients are made of, and where: targets, timeouts, retries, event loops."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from unit.client.scripted_server import Script, serving
from vaeserve import AsyncClient, ClientClosed, InvalidInput


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("localhost", "names no port"),
        ("dns:localhost", "names no port"),
        ("dns:///vae.example", "names no port"),
        ("[::1]", "names no port"),
        ("http://localhost:50051", "begins with http://"),
    ],
)
def test_a_target_is_host_and_port(connect: Any, target: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=f"{words}.*; give host:port"):
        connect(target)


@pytest.mark.parametrize(
    "target",
    [
        "host:5",
        "[::1]:5",
        "dns:host:5",
        "dns:///host:5",
        "unix:x.sock",
        "xds:///vae",
        "ipv4:1.2.3.4:5",
    ],
)
def test_other_names_of_grpc_need_none(connect: Any, target: str) -> None:
    connect(target)


@pytest.mark.parametrize("form", ["unix:{}", "unix://{}"])
def test_a_unix_socket_is_called(connect: Any, tmp_path: Path, form: str) -> None:
    with serving(Script(), at=f"unix:{tmp_path / 's'}"):
        client = connect(form.format(tmp_path / "s"))
        assert len(client.model("digits").sample(3)) == 3
        client.close()


@pytest.mark.parametrize("timeout", [None, "5", -1, float("nan")])
def test_a_timeout_is_refused_at_once(connect: Any, timeout: Any) -> None:
    with pytest.raises(InvalidInput, match=r'at least 0, or float\("inf"\) for no limit; got'):
        connect("localhost:5", timeout=timeout)


@pytest.mark.parametrize("retries", [-1, 5, 2.5, None, "3"])
def test_retries_that_would_not_be_made_are_refused(connect: Any, retries: Any) -> None:
    with pytest.raises(InvalidInput, match=r"retries must be 0 \.\. 4"):
        connect("localhost:5", retries=retries)


def test_a_path_is_no_tls(connect: Any) -> None:
    with pytest.raises(InvalidInput, match=r"Tls\(ca=\.\.\.\)"):
        connect("127.0.0.1:5", tls="ca.pem")


def test_a_client_of_no_event_loop_says_where_to_make_it() -> None:
    with pytest.raises(InvalidInput, match="in a coroutine of the loop that uses it: async with"):
        AsyncClient("localhost:5")


def test_a_client_of_another_event_loop_says_so_too(script: Script) -> None:
    async def make() -> AsyncClient:
        client = AsyncClient(script.address)
        await client.model("digits").sample(1)
        return client

    async def call(client: AsyncClient) -> None:
        with pytest.raises(ClientClosed, match="is of another event loop; make an AsyncClient in"):
            await client.models()

    with asyncio.Runner() as one, asyncio.Runner() as other:
        client = one.run(make())
        other.run(call(client))
        one.run(client.aclose())
