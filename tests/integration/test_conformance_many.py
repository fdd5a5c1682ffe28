"""Ten thousand calls in flight at once, on either transport."""

from contextlib import ExitStack

import grpc
import pytest

from support.raw_calls import ENCODE, REQUEST, Counts, begin, channel_to, until
from support.servers import held_engines, series
from vaeserve_server.app import App

CALLS = 10_000
GRAPH = 'graph="encoder",model="digits"'


@pytest.mark.parametrize("connections", [1, 8])
def test_all_are_answered(patient: App, transport: str, connections: int) -> None:
    counts = Counts(patient)
    with ExitStack() as opened, held_engines() as engines:
        channels = [opened.enter_context(channel_to(patient)) for _ in range(connections)]
        calls = [begin(channels[number % connections], ENCODE, REQUEST) for number in range(CALLS)]
        # A call of the public API waits on a thread, and before that in front of the threads.
        admitted = CALLS if transport == "lane" else 512
        in_flight = f"vaeserve_in_flight{{{GRAPH}}}"
        until(lambda: series(patient)[in_flight], admitted)
        assert not any(call.done() for call in calls)
        engines.release()
        answers = {call.result() for call in calls}
    assert len(answers) == 1
    counts.settle(started=CALLS, received=CALLS, sent=CALLS, OK=CALLS)
    assert all(call.code() is grpc.StatusCode.OK for call in calls)
