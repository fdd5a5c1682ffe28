"""As much of HTTP/2 as a gRPC load needs, by hand over plain sockets: cheap, where a grpcio client
would cost several times what the server does.

RFC 9113 (frames, flow control) and RFC 7541 (header compression).
"""

import socket
import struct
from collections.abc import Iterator

DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
ACK = END_STREAM = 1
END_HEADERS = 4
FRAME_BYTES = 16384
PREFIX_BYTES = 5

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_INITIAL_WINDOW_SIZE = 4
_DEFAULT_WINDOW = 65535
_MOST = 2**31 - 1
_HEAD = struct.Struct(">HBBBI")
_RECEIVE_BYTES = 1 << 18
# :method POST and :scheme http of the static table; the four others are put into the dynamic table
# by the first call, where the last has the number 62.
_STATIC = b"\x83\x86"
_INDEXED = _STATIC + bytes(0x80 | number for number in (65, 64, 63, 62))

Frame = tuple[int, int, int, bytes]
"""Type, flags, stream, payload."""


def framed(message: bytes) -> bytes:
    """A gRPC message, not compressed, with its prefix."""
    return b"\0" + struct.pack(">I", len(message)) + message


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One HTTP/2 frame."""
    return _HEAD.pack(len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload


class Connection:
    """A connection to a gRPC server on this machine, for calls of one method.

    Attributes:
        socket: to wait on.
        credit: bytes of data that the server lets through now, on all streams together.
        stream_credit: the same of each stream that is asked about.
        initial_credit: of a new stream.
    """

    def __init__(self, port: int, path: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.credit = self.initial_credit = _DEFAULT_WINDOW
        self.stream_credit: dict[int, int] = {}
        self._path = path.encode()
        self._next = 1
        self._input = b""
        settings = frame(SETTINGS, 0, 0, struct.pack(">HI", _INITIAL_WINDOW_SIZE, _MOST))
        # So large that the replies of a run need no more.
        window = frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", _MOST - _DEFAULT_WINDOW))
        self.socket.sendall(_PREFACE + settings + window)

    def call(self) -> tuple[int, bytes]:
        """A new stream and the frame that opens it."""
        stream, self._next = self._next, self._next + 2
        if stream > 1:
            return stream, frame(HEADERS, END_HEADERS, stream, _INDEXED)
        fields = (
            (b":path", self._path),
            (b":authority", b"127.0.0.1"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
        )
        block = b"".join(b"\x40" + _text(name) + _text(value) for name, value in fields)
        return stream, frame(HEADERS, END_HEADERS, stream, _STATIC + block)

    def receive(self) -> Iterator[Frame]:
        """Frames of calls that have come; what concerns the connection is dealt with.

        Raises:
            ConnectionError: the server has closed the connection.
        """
        received = self.socket.recv(_RECEIVE_BYTES)
        if not received:
            raise ConnectionError("the server has closed the connection")
        buffer = self._input + received
        at, end = 0, len(buffer)
        while end - at >= 9:
            high, low, kind, flags, stream = _HEAD.unpack_from(buffer, at)
            after = at + 9 + (high << 8 | low)
            if after > end:
                break
            payload = buffer[at + 9 : after]
            at = after
            if kind in (DATA, HEADERS, RESET):
                yield kind, flags, stream, payload
            else:
                self._take(kind, flags, stream, payload)
        self._input = buffer[at:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == WINDOW_UPDATE:
            more = int.from_bytes(payload, "big")
            if stream == 0:
                self.credit += more
            elif stream in self.stream_credit:
                self.stream_credit[stream] += more
        elif kind == SETTINGS and not flags & ACK:
            for name, value in struct.iter_unpack(">HI", payload):
                if name == _INITIAL_WINDOW_SIZE:
                    for known in self.stream_credit:
                        self.stream_credit[known] += value - self.initial_credit
                    self.initial_credit = value
            self.socket.sendall(frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            self.socket.sendall(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            raise ConnectionError("the server goes away")


def _text(value: bytes) -> bytes:
    assert len(value) < 127, "longer ones take another prefix"
    return bytes([len(value)]) + value
