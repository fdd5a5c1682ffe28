"""Drives bidirectional streams; a process of its own, so that only the server's CPU is counted.

Each stream has a connection and keeps a window of messages unanswered: one goes out for each that
comes back. Prints the number of replies and their bytes; an error has none.
"""

import argparse
import selectors
from pathlib import Path

from bench.http2 import (
    DATA,
    END_STREAM,
    FRAME_BYTES,
    HEADERS,
    PREFIX_BYTES,
    RESET,
    Connection,
    frame,
    framed,
)


class Stream:
    """One bidirectional call on a connection of its own.

    Args:
        port: of the server.
        path: "/package.Service/Method".
        message: the serialised request, sent again and again.
        count: how often.
        window: how many may be unanswered.
    """

    def __init__(self, port: int, path: str, message: bytes, count: int, window: int) -> None:
        self.connection = Connection(port, path)
        self._message = framed(message)
        self._to_send = count
        self._reply = self._output = b""
        self.replies = self.reply_bytes = 0
        self.done = False
        self._stream, opening = self.connection.call()
        self._credit = self.connection.stream_credit
        self._credit[self._stream] = self.connection.initial_credit
        self.connection.socket.sendall(opening)
        for _ in range(min(window, count)):
            self._queue_message()
        self._flush()

    def read(self) -> None:
        """Take what has come and answer it."""
        for kind, flags, _, payload in self.connection.receive():
            if kind == DATA:
                self._take_reply(payload)
            if kind == RESET or (kind in (DATA, HEADERS) and flags & END_STREAM):
                self.done = True
        if not self.done:
            self._flush()

    def _take_reply(self, payload: bytes) -> None:
        self._reply += payload
        while len(self._reply) >= PREFIX_BYTES:
            length = int.from_bytes(self._reply[1:PREFIX_BYTES], "big")
            if len(self._reply) < PREFIX_BYTES + length:
                break
            self._reply = self._reply[PREFIX_BYTES + length :]
            self.replies += 1
            self.reply_bytes += length
            if self._to_send:
                self._queue_message()

    def _queue_message(self) -> None:
        self._output += self._message
        self._to_send -= 1

    def _flush(self) -> None:
        """Send what the server's flow control lets through, and the end with the last of it."""
        while self._output:
            credit = min(self.connection.credit, self._credit[self._stream])
            size = min(len(self._output), FRAME_BYTES, credit)
            if size <= 0:
                return
            last = size == len(self._output) and not self._to_send
            flags = END_STREAM if last else 0
            data = frame(DATA, flags, self._stream, self._output[:size])
            self.connection.socket.sendall(data)
            self._output = self._output[size:]
            self.connection.credit -= size
            self._credit[self._stream] -= size


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("message", type=Path, help="File with the serialised request.")
    parser.add_argument("--streams", type=int)
    parser.add_argument("--window", type=int)
    parser.add_argument("--count", type=int, help="Messages a stream.")
    options = parser.parse_args()
    message = options.message.read_bytes()
    selector = selectors.DefaultSelector()
    streams = [
        Stream(options.port, options.path, message, options.count, options.window)
        for _ in range(options.streams)
    ]
    for stream in streams:
        selector.register(stream.connection.socket, selectors.EVENT_READ, stream)
    while selector.get_map():
        for ready, _ in selector.select():
            ready.data.read()
            if ready.data.done:
                selector.unregister(ready.fileobj)
                ready.data.connection.socket.close()
    replies = sum(stream.replies for stream in streams)
    print(replies, sum(stream.reply_bytes for stream in streams))  # noqa: T201


if __name__ == "__main__":
    main()
