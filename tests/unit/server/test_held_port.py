"""A held port lets in who shares it and nobody else. Real sockets; it is the kernel's rules."""

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from vaeserve_server.errors import StartupError
from vaeserve_server.held_port import HeldPort


@contextmanager
def listener(port: int, *, shared: bool, host: str = "127.0.0.1") -> Iterator[socket.socket]:
    """As gRPC listens."""
    with socket.socket() as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
        made.bind((host, port))
        made.listen()
        yield made


def refuses(port: int, host: str = "127.0.0.1") -> bool:
    try:
        with listener(port, shared=False, host=host):
            return False
    except OSError:
        return True


def test_only_sharing_listeners_get_in_and_all_get_connections() -> None:
    with closing(HeldPort("127.0.0.1:0")) as held:
        assert held.port > 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", held.port))
        assert refuses(held.port)
        with listener(held.port, shared=True) as one, listener(held.port, shared=True) as two:
            callers = [socket.create_connection(("127.0.0.1", held.port)) for _ in range(64)]
            for each in (one, two):
                each.setblocking(False)
                each.accept()[0].close()  # fails where the port is not shared out
            for caller in callers:
                caller.close()
            assert refuses(held.port)
            assert refuses(held.port, "0.0.0.0")  # noqa: S104
        assert refuses(held.port)
    assert not refuses(held.port)


def test_a_second_holder_is_refused_before_anybody_listens() -> None:
    with closing(HeldPort("127.0.0.1:0")) as held:
        for host in ("127.0.0.1", "0.0.0.0", "[::]", "localhost"):  # noqa: S104
            with pytest.raises(StartupError, match="is the port taken"):
                HeldPort(f"{host}:{held.port}")
        assert refuses(held.port)


def test_a_listening_server_is_no_port_to_hold() -> None:
    with (
        listener(0, shared=True) as server,
        pytest.raises(StartupError, match="is the port taken"),
    ):
        HeldPort(f"127.0.0.1:{server.getsockname()[1]}")


def test_a_port_can_be_held_right_after_its_connections_were_closed() -> None:
    held = HeldPort("127.0.0.1:0")
    with (
        listener(held.port, shared=True) as server,
        socket.create_connection(("127.0.0.1", held.port)) as caller,
    ):
        server.accept()[0].close()  # this side closes first, so this side waits in TIME_WAIT
        assert caller.recv(1) == b""
    held.close()
    HeldPort(f"127.0.0.1:{held.port}").close()


@pytest.mark.parametrize("host", ["localhost", "[::1]"])
def test_every_address_of_a_host_is_held(host: str) -> None:
    if host == "[::1]" and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    with closing(HeldPort(f"{host}:0")) as held:
        assert host == "[::1]" or refuses(held.port)
        with pytest.raises(StartupError):
            HeldPort(f"{host}:{held.port}")


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_a_host_that_is_not_ours(host: str) -> None:
    with pytest.raises(StartupError, match="cannot listen on"):
        HeldPort(f"{host}:0")
