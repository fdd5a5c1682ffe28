"""Holds a TCP port for the workers of one supervisor, and against everybody else."""

import errno
import socket

from vaeserve_server.config import split_address
from vaeserve_server.errors import StartupError

_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104  compared with, not bound
_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class HeldPort:
    """A port on which this process never accepts, and only processes that share it may listen.

    Sharing needs SO_REUSEPORT on both sides and one user, so servers that do not ask for it are
    refused as long as this object lives, also while no worker listens.

    Attributes:
        port: its number.
    """

    def __init__(self, address: str) -> None:
        """Take the port.

        Args:
            address: HOST:PORT; port 0 takes a free one.

        Raises:
            StartupError: the port is taken, by sharing processes too, or the host is not ours.
        """
        host, self.port = split_address(address)
        self._sockets: list[socket.socket] = []
        try:
            for family, name in _names(host):
                self._hold(family, name)
        except OSError as error:
            self.close()
            raise StartupError(f"cannot listen on {address}: is the port taken?") from error
        if not self._sockets:
            raise StartupError(f"cannot listen on {address}: the host is not ours")

    def close(self) -> None:
        """Let the port go."""
        for held in self._sockets:
            held.close()

    def _hold(self, family: socket.AddressFamily, host: str) -> None:
        try:
            if self.port:
                held = _bound(family, host, self.port)
            else:
                # A port that the kernel chose is lost with the listening, one by number is kept.
                with _bound(family, host, 0) as first:
                    self.port = first.getsockname()[1]
                    held = _bound(family, host, self.port)
        except OSError as error:
            if error.errno in _NO_SUCH_ADDRESS:  # such as ::1 where there is no IPv6
                return
            raise
        self._sockets.append(held)
        # SO_REUSEADDR lets us in beside connections that were closed a moment ago, and beside
        # another supervisor whose workers do not listen yet. Listening once tells these apart, and
        # the kernel then asks this socket about every further bind.
        held.listen(1)
        held.shutdown(socket.SHUT_RDWR)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def _names(host: str) -> list[tuple[socket.AddressFamily, str]]:
    """Every address of a host, as gRPC takes them: a wildcard is both families in one socket."""
    if host in _WILDCARDS and socket.has_dualstack_ipv6():
        return [(socket.AF_INET6, "::")]
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return [(family, str(name[0])) for family, _, _, _, name in found]


def _bound(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host not in _WILDCARDS))
        made.bind((host, port))
    except BaseException:
        made.close()
        raise
    return made
