"""Ten thousand calls in flight at once, on either transport."""

from contextlib import ExitStack, closing

import pytest

from bench.http2 import (
    DATA,
    END_STREAM,
    HEADERS,
    PREFIX_BYTES,
    RESET,
    Connection,
    frame,
    framed,
)
from support.raw_calls import ENCODE, REQUEST, Counts, channel_to, ending, until
from support.servers import held_engines, series
from vaeserve_server.app import App

CALLS = 10_000
GRAPH = 'graph="encoder",model="digits"'
MESSAGE = framed(REQUEST)


class Flood:
    """Calls of one connection, all begun before any is answered."""

    def __init__(self, port: int) -> None:
        self._connection = Connection(port, ENCODE)
        self._begun = self._ended = self.resets = self.bytes = 0

    def begin(self, calls: int) -> None:
        connection = self._connection
        for _ in range(calls):
            while connection.credit < len(MESSAGE):
                self._receive()
            connection.credit -= len(MESSAGE)
            stream, opening = connection.call()
            connection.socket.sendall(opening + frame(DATA, END_STREAM, stream, MESSAGE))
        self._begun += calls

    def finish(self) -> None:
        """Wait until all have ended."""
        while self._ended < self._begun:
            self._receive()

    def close(self) -> None:
        self._connection.socket.close()

    def _receive(self) -> None:
        for kind, flags, _, payload in self._connection.receive():
            self.bytes += len(payload) if kind == DATA else 0
            self.resets += kind == RESET
            self._ended += kind == HEADERS and bool(flags & END_STREAM)


@pytest.mark.parametrize("connections", [1, 8])
def test_all_are_answered(patient: App, transport: str, connections: int) -> None:
    with channel_to(patient) as channel:
        answer = ending(channel, ENCODE, REQUEST).reply
    assert answer is not None
    counts = Counts(patient)
    with ExitStack() as opened, held_engines() as engines:
        floods = [opened.enter_context(closing(Flood(patient.port))) for _ in range(connections)]
        for flood in floods:
            flood.begin(CALLS // connections)
        # A call of the public API waits on a thread, and before that in front of the threads.
        admitted = CALLS if transport == "lane" else 512
        until(lambda: series(patient)[f"vaeserve_in_flight{{{GRAPH}}}"], admitted)
        engines.release()
        for flood in floods:
            flood.finish()
    assert sum(flood.bytes for flood in floods) == CALLS * (PREFIX_BYTES + len(answer))
    assert not any(flood.resets for flood in floods)
    counts.settle(started=CALLS, received=CALLS, sent=CALLS, OK=CALLS)
