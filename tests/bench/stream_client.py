"""Drives bidirectional streams cheaply: HTTP/2 by hand over plain sockets, a process of its own.

Each stream has a connection and keeps a window of messages unanswered: one goes out for each that
comes back. A grpcio client would cost several times what the server does, and the server would
mostly be seen waking up. Prints the number of replies and their bytes; an error has none.
"""

import argparse
import selectors
import socket
import struct
from pathlib import Path

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_ACK = _END_STREAM = 1
_END_HEADERS = 4
_INITIAL_WINDOW_SIZE = 4
_MOST = 2**31 - 1
_DEFAULT_WINDOW = 65535
_FRAME_BYTES = 16384
_STREAM = 1


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One HTTP/2 frame (RFC 9113, section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header(name: bytes, value: bytes) -> bytes:
    """A literal header field without indexing or Huffman code (RFC 7541, section 6.2.2)."""
    return b"\0" + _text(name) + _text(value)


def _text(value: bytes) -> bytes:
    assert len(value) < 127, "longer ones take another prefix"
    return bytes([len(value)]) + value


class Stream:
    """One bidirectional call on a connection of its own.

    Args:
        address: of the server.
        path: "/package.Service/Method".
        message: the serialised request, sent again and again.
        count: how often.
        window: how many may be unanswered.
    """

    def __init__(
        self, address: tuple[str, int], path: str, message: bytes, count: int, window: int
    ) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._message = b"\0" + struct.pack(">I", len(message)) + message
        self._to_send = count
        self._window = window
        self._credit = {0: _DEFAULT_WINDOW, _STREAM: _DEFAULT_WINDOW}
        self._server_window = _DEFAULT_WINDOW
        self._input = b""
        self._reply = b""
        self._output = b""
        self.replies = self.reply_bytes = 0
        self.done = False
        settings = struct.pack(">HI", _INITIAL_WINDOW_SIZE, _MOST)
        fields = (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", path.encode()),
            (b":authority", b"bench"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
        )
        block = b"".join(header(name, value) for name, value in fields)
        self.socket.sendall(
            _PREFACE
            + frame(_SETTINGS, 0, 0, settings)
            # So large that the replies of a run never need more.
            + frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _MOST - _DEFAULT_WINDOW))
            + frame(_HEADERS, _END_HEADERS, _STREAM, block)
        )
        for _ in range(min(window, count)):
            self._queue_message()
        self._flush()

    def read(self) -> None:
        """Take what has come and answer it."""
        received = self.socket.recv(1 << 16)
        if not received:
            self.done = True
        self._input += received
        while len(self._input) >= 9:
            length = int.from_bytes(self._input[:3], "big")
            if len(self._input) < 9 + length:
                break
            kind, flags, stream = struct.unpack(">BBI", self._input[3:9])
            payload, self._input = self._input[9 : 9 + length], self._input[9 + length :]
            self._take(kind, flags, stream, payload)
        self._flush()

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _DATA:
            self._take_reply(payload)
        elif kind == _WINDOW_UPDATE:
            self._credit[stream] = self._credit.get(stream, 0) + int.from_bytes(payload, "big")
        elif kind == _SETTINGS and not flags & _ACK:
            self._take_settings(payload)
            self.socket.sendall(frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self.socket.sendall(frame(_PING, _ACK, 0, payload))
        if kind in (_RESET, _GOAWAY) or (kind in (_DATA, _HEADERS) and flags & _END_STREAM):
            self.done = True

    def _take_settings(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", payload):
            if name == _INITIAL_WINDOW_SIZE:
                self._credit[_STREAM] += value - self._server_window
                self._server_window = value

    def _take_reply(self, payload: bytes) -> None:
        self._reply += payload
        while len(self._reply) >= 5:
            length = 5 + int.from_bytes(self._reply[1:5], "big")
            if len(self._reply) < length:
                break
            self._reply = self._reply[length:]
            self.replies += 1
            self.reply_bytes += length - 5
            if self._to_send:
                self._queue_message()

    def _queue_message(self) -> None:
        self._output += self._message
        self._to_send -= 1

    def _flush(self) -> None:
        """Send what the server's flow control lets through, and the end after the last message."""
        while self._output:
            size = min(len(self._output), _FRAME_BYTES, *self._credit.values())
            if size <= 0:
                return
            last = size == len(self._output) and not self._to_send
            flags = _END_STREAM if last else 0
            self.socket.sendall(frame(_DATA, flags, _STREAM, self._output[:size]))
            self._output = self._output[size:]
            for credit in self._credit:
                self._credit[credit] -= size


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("message", type=Path, help="File with the serialised request.")
    parser.add_argument("--streams", type=int)
    parser.add_argument("--window", type=int)
    parser.add_argument("--count", type=int, help="Messages a stream.")
    options = parser.parse_args()
    address, message = ("127.0.0.1", options.port), options.message.read_bytes()
    selector = selectors.DefaultSelector()
    streams = [
        Stream(address, options.path, message, options.count, options.window)
        for _ in range(options.streams)
    ]
    for stream in streams:
        selector.register(stream.socket, selectors.EVENT_READ, stream)
    while selector.get_map():
        for ready, _ in selector.select():
            ready.data.read()
            if ready.data.done:
                selector.unregister(ready.fileobj)
                ready.data.socket.close()
    replies = sum(stream.replies for stream in streams)
    print(replies, sum(stream.reply_bytes for stream in streams))  # noqa: T201


if __name__ == "__main__":
    main()
