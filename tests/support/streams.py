"""Streams of bytes, fed by a test."""

import queue
from collections.abc import Iterator
from typing import Any

import grpc

from support.raw_calls import VAE

ENCODE_STREAM = f"{VAE}/EncodeStream"
Code = grpc.StatusCode


class Stream:
    """A stream of bytes that the test feeds."""

    def __init__(self, channel: grpc.Channel, path: str = ENCODE_STREAM, **options: Any) -> None:
        self._messages: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        call: Any = channel.stream_stream(path)
        self.answers: Any = call(self._sent(), **{"timeout": 60, **options})

    def send(self, *messages: bytes) -> None:
        for message in messages:
            self._messages.put(message)

    def end(self) -> None:
        self._messages.put(None)

    def rest(self) -> tuple[Code, list[bytes]]:
        """How it ends, and the answers until then."""
        answers = []
        try:
            for answer in self.answers:
                answers.append(answer)  # noqa: PERF402  those before an error count
        except grpc.RpcError as error:
            self.end()  # the client's own thread waits for more
            return error.code(), answers
        return self.answers.code(), answers

    def _sent(self) -> Iterator[bytes]:
        while (message := self._messages.get()) is not None:
            yield message
