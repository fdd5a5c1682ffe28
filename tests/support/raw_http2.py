"""A client of HTTP/2 that breaks the rules when told to."""

import re
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from bench.http2 import ACK, DATA, END_HEADERS, END_STREAM, HEADERS, RESET, SETTINGS, frame
from support.raw_calls import ENCODE
from vaeserve_server.app import App

INITIAL_WINDOW_SIZE = 4  # a setting
PING = 6
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
Fields = tuple[tuple[bytes, bytes], ...]

_HEAD = struct.Struct(">HBBBI")
_STATUS = re.compile(rb"grpc-status([\x01\x02])([0-9]{1,2})")


class Wire:
    """One connection, without TLS."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._buffer = b""

    def open(self, window: int | None = None) -> Self:
        """Say what every HTTP/2 client says first, and how many bytes a stream may be sent."""
        settings = b"" if window is None else struct.pack(">HI", INITIAL_WINDOW_SIZE, window)
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0, settings))
        return self

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def call(self, stream: int, fields: Fields, *, end: bool = False) -> None:
        """Open a stream."""
        flags = END_HEADERS | (END_STREAM if end else 0)
        self.send(frame(HEADERS, flags, stream, b"".join(_literal(*field) for field in fields)))

    def data(self, stream: int, data: bytes, *, end: bool = True) -> None:
        """Send a part of a stream, of at most 16 KiB."""
        self.send(frame(DATA, END_STREAM if end else 0, stream, data))

    def reset(self, stream: int) -> None:
        """Give a stream up (CANCEL)."""
        self.send(frame(RESET, 0, stream, struct.pack(">I", 8)))

    def status(self, stream: int) -> str:
        """How a stream ends: a gRPC status, `reset` or `closed`.

        Only of a connection's first stream: later ones may refer to what earlier ones said.
        """
        for kind, flags, of, payload in self.frames():
            if of != stream:
                continue
            if kind == HEADERS and flags & END_STREAM:
                found = _STATUS.search(payload)
                return found[2].decode() if found else f"no status in {payload!r}"
            if kind == RESET:
                return "reset"
        return "closed"

    def frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        """What the server says, until it closes; its settings are acknowledged."""
        while True:
            while len(self._buffer) < 9 or len(self._buffer) < 9 + self._length():
                try:
                    received = self.socket.recv(1 << 16)
                except ConnectionError:
                    return
                if not received:
                    return
                self._buffer += received
            _, _, kind, flags, stream = _HEAD.unpack_from(self._buffer)
            end = 9 + self._length()
            payload, self._buffer = self._buffer[9:end], self._buffer[end:]
            if kind == SETTINGS and not flags & ACK:
                self.send(frame(SETTINGS, ACK, 0, b""))
            yield kind, flags, stream, payload

    def _length(self) -> int:
        return int.from_bytes(self._buffer[:3], "big")


def wait_until_read(wire: Wire) -> None:
    """Wait until the server has read everything that was sent before."""
    wire.send(frame(PING, 0, 0, b"are you?"))
    assert any(kind == PING and flags & ACK for kind, flags, _, _ in wire.frames())


@contextmanager
def wire_to(app: App) -> Iterator[Wire]:
    """A connection that is closed at the end."""
    wire = Wire(app.port)
    try:
        yield wire
    finally:
        wire.socket.close()


def headers(*more: tuple[bytes, bytes], **changes: bytes | None) -> Fields:
    """Headers of a call of ENCODE; `changes` replace a value, or leave the header out."""
    usual: dict[bytes, bytes] = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": ENCODE.encode(),
        b":authority": b"127.0.0.1",
        b"te": b"trailers",
        b"content-type": b"application/grpc",
    }
    for name, value in changes.items():
        key = {"method": b":method", "path": b":path", "content_type": b"content-type"}[name]
        if value is None:
            del usual[key]
        else:
            usual[key] = value
    return (*usual.items(), *more)


def _literal(name: bytes, value: bytes) -> bytes:
    """A header in full, never to be indexed (RFC 7541, 6.2.3)."""
    return b"\x10" + _text(name) + _text(value)


def _text(value: bytes) -> bytes:
    if len(value) < 127:
        return bytes([len(value)]) + value
    rest, size = len(value) - 127, b"\x7f"
    while rest >= 128:
        size += bytes([rest % 128 + 128])
        rest //= 128
    return size + bytes([rest]) + value
