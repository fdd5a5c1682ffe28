"""The floor: the least that a Python server on a completion queue of its own can do for a request.

What has arrived is joined, run once and answered, on one thread. Requests and replies are the bare
bytes of arrays. There is no admission, no deadline, no cancellation, no metric, no check of any
kind, and no limit but that of a batch: what the service adds to this is what its features cost.
"""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from bench import arguments
from bench.cases import make_session
from vaeserve_server import core_queue as core
from vaeserve_server.turn import Turn

SERVICE = "bench.Bare"

_REQUESTED = 64
_TURN_EVENTS = 256
_MAX_ROWS = 256


class _Graph:
    def __init__(self, file: Path, threads: int) -> None:
        self._session = make_session(file, threads)
        entry = self._session.get_inputs()[0]
        self._name = entry.name
        self._row_shape = entry.shape[1:]
        self._row_bytes = 4 * int(np.prod(self._row_shape))
        self._outputs = [output.name for output in self._session.get_outputs()]

    def rows(self, message: bytes) -> int:
        return len(message) // self._row_bytes

    def run(self, messages: list[bytes]) -> list[Any]:
        batch = np.frombuffer(b"".join(messages), np.float32).reshape(-1, *self._row_shape)
        return list(self._session.run(self._outputs, {self._name: batch}))


class _Method:
    """One method: its calls come in here."""

    def __init__(
        self, queue: core.CoreQueue, name: str, graph: _Graph, ready: "_Ready", *, stream: bool
    ) -> None:
        self.ask = queue.register(f"/{SERVICE}/{name}", self)
        self.graph = graph
        self.ready = ready
        self.stream = stream

    def __call__(self, event: core.Event) -> None:
        if event.success:
            self.ask()
            core.receive_message(event.call, _Call(event.call, self).received)


class _Call:
    """One call."""

    __slots__ = ("_begun", "_core", "method")

    def __init__(self, call: core.CoreCall, method: _Method) -> None:
        self._core = call
        self._begun = False
        self.method = method

    def received(self, event: core.Event) -> None:
        message = core.message_of(event)
        if message is not None:
            self.method.ready.append((self, message))
        elif self._begun:  # the end of a stream
            core.end(self._core, 0, "", (), _nothing, first=False, watched=False)

    def _sent(self, _: core.Event) -> None:
        core.receive_message(self._core, self.received)

    def reply(self, data: bytes) -> None:
        if self.method.stream:
            core.send_message(self._core, data, self._sent, first=not self._begun)
            self._begun = True
        else:
            core.reply(self._core, data, (), _nothing, watched=False)()


_Ready = deque[tuple[_Call, bytes]]


def _nothing(_: core.Event) -> None:
    """An event that nobody waits for."""


def _answer(ready: _Ready) -> None:
    """One run for as many requests of one graph as fit."""
    graph, rows, calls, messages = ready[0][0].method.graph, 0, [], []
    while ready and ready[0][0].method.graph is graph and rows < _MAX_ROWS:
        call, message = ready.popleft()
        calls.append(call)
        messages.append(message)
        rows += graph.rows(message)
    outputs = graph.run(messages)
    begin = 0
    for call, message in zip(calls, messages, strict=True):
        end = begin + graph.rows(message)
        call.reply(b"".join([output[begin:end] for output in outputs]))
        begin = end


def main() -> None:
    options = arguments.baseline()
    server = grpc.server(ThreadPoolExecutor(1), options=[("grpc.max_receive_message_length", -1)])
    queue = core.CoreQueue(server)
    graphs = {
        name: _Graph(options.folder / f"{graph}.onnx", options.threads)
        for name, graph in (("Encode", "encoder"), ("Decode", "decoder"))
    }
    ready: _Ready = deque()
    methods = [_Method(queue, name, graph, ready, stream=False) for name, graph in graphs.items()]
    methods.append(_Method(queue, "EncodeStream", graphs["Encode"], ready, stream=True))
    server.add_insecure_port(f"127.0.0.1:{options.port}")
    server.start()
    for method in methods:
        for _ in range(_REQUESTED):
            method.ask()
    turn = Turn()
    while (event := queue.wait()) is not None:
        queue.take_turn(event, _TURN_EVENTS, turn)
        while ready:
            _answer(ready)
        del event  # it would keep a finished call alive


if __name__ == "__main__":
    main()
