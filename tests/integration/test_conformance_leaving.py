"""Callers who leave, at every stage of a call: what is counted, and that nobody else notices."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from support.raw_calls import (
    ENCODE,
    REQUEST,
    Counts,
    begin,
    begin_open,
    channel_to,
    ending,
    ending_of,
    until,
)
from support.servers import held_engines, running_app, series
from vaeserve_server.app import App

GRAPH = 'graph="encoder",model="digits"'
Code = grpc.StatusCode


class Silence:
    """A side of a call that stays open and says nothing."""

    def __init__(self) -> None:
        self._over = threading.Event()

    def messages(self) -> Iterator[bytes]:
        yield from (b"" for _ in range(0 if self._over.wait(60) else 1))

    def end(self) -> None:
        self._over.set()


@contextmanager
def silence() -> Iterator[Silence]:
    """Ended when the test is over, for the client's thread waits on it."""
    made = Silence()
    try:
        yield made
    finally:
        made.end()


# A client whose time is up cancels the call; the server's own clock may be a little behind.
LEFT = (Code.CANCELLED, Code.DEADLINE_EXCEEDED)


def how_many_left(ended: dict[str, float]) -> float:
    return sum(ended.get(code.name, 0) for code in LEFT)


def queued_rows(app: App, rows: int) -> None:
    until(lambda: series(app)[f"vaeserve_queue_rows{{{GRAPH}}}"], rows)


def rejected(app: App, reason: str) -> float:
    return series(app)[f'vaeserve_rejected_total{{{GRAPH},reason="{reason}"}}']


@pytest.mark.parametrize("leaves", ["cancels", "runs out of time"])
def test_before_the_message(served: App, transport: str, leaves: str) -> None:
    counts = Counts(served)
    with channel_to(served) as channel, silence() as nothing:
        calls = [
            begin_open(
                channel, ENCODE, nothing.messages(), timeout=30 if leaves == "cancels" else 0.3
            )
            for _ in range(5)
        ]
        # What the connection asks later is answered after they have come.
        assert ending(channel, ENCODE, REQUEST).code is Code.OK
        if leaves == "cancels":
            for call in calls:
                call.cancel()
        assert {ending_of(call).code for call in calls} <= {*LEFT}
        counts.settle_somehow()
        ended = counts()
        left = how_many_left(ended)
        if transport == "standard":  # grpcio may tell of the end of messages, not of the call
            left += ended.get("UNIMPLEMENTED", 0)
        assert (ended["OK"], ended["started"], left) == (1, 6, 5)


def test_in_the_queue(patient: App) -> None:
    counts = Counts(patient)
    dropped = rejected(patient, "CANCELLED")
    with channel_to(patient) as channel, held_engines() as engines:
        running = begin(channel, ENCODE, REQUEST)
        engines.wait_for_a_run()
        leavers = [begin(channel, ENCODE, REQUEST) for _ in range(3)]
        stayer = begin(channel, ENCODE, REQUEST)
        queued_rows(patient, 8)
        for leaver in leavers:
            leaver.cancel()
        # What the connection asks later is answered after the cancellation has been noticed.
        assert ending(channel, "/vaeserve.v1.ModelService/ListModels", b"").code is Code.OK
        engines.release()
        assert running.result() == stayer.result()
    counts.settle(started=5, received=5, sent=2, OK=2, CANCELLED=3)
    assert rejected(patient, "CANCELLED") == dropped + 3


def test_out_of_time_in_the_queue(patient: App) -> None:
    counts = Counts(patient)
    dropped = rejected(patient, "EXPIRED") + rejected(patient, "CANCELLED")
    with channel_to(patient) as channel, held_engines() as engines:
        running = begin(channel, ENCODE, REQUEST)
        engines.wait_for_a_run()
        hasty, patience = (begin(channel, ENCODE, REQUEST, timeout=wait) for wait in (0.3, 60))
        assert ending_of(hasty).code is Code.DEADLINE_EXCEEDED
        engines.release()
        assert running.result() == patience.result()
    counts.settle_somehow()
    assert (counts()["OK"], how_many_left(counts())) == (2, 1)
    assert rejected(patient, "EXPIRED") + rejected(patient, "CANCELLED") == dropped + 1


@pytest.mark.parametrize("leaves", ["cancels", "runs out of time"])
def test_while_the_batch_runs(patient: App, leaves: str) -> None:
    counts = Counts(patient)
    with channel_to(patient) as channel, held_engines() as engines:
        first = begin(channel, ENCODE, REQUEST)
        engines.wait_for_a_run()
        leaver = begin(channel, ENCODE, REQUEST, timeout=60 if leaves == "cancels" else 1)
        stayer = begin(channel, ENCODE, REQUEST)
        queued_rows(patient, 4)
        engines.let_one_pass()
        engines.wait_for_a_run()
        if leaves == "cancels":
            leaver.cancel()
        assert ending_of(leaver).code is not Code.OK
        assert ending(channel, "/vaeserve.v1.ModelService/ListModels", b"").code is Code.OK
        engines.release()
        assert first.result() == stayer.result()
    counts.settle_somehow()
    assert (counts()["OK"], counts()["sent"], how_many_left(counts())) == (2, 2, 1)


def test_while_the_batch_runs_on_the_lane_itself(repository: Path) -> None:
    settings = {"transport": "lane", "placement": "inline"}
    with (
        running_app(repository, **settings) as app,
        channel_to(app) as channel,
        held_engines(lane_too=True) as engines,
    ):
        counts = Counts(app)
        leaver = begin(channel, ENCODE, REQUEST)
        engines.wait_for_a_run()
        late = [begin(channel, ENCODE, REQUEST) for _ in range(5)]
        leaver.cancel()
        late[0].cancel()
        engines.release()
        answers = {call.result() for call in late[1:]}
        assert answers == {ending(channel, ENCODE, REQUEST).reply}
        until(lambda: counts()["OK"] + counts().get("CANCELLED", 0), 7)
        assert counts.unanswered() == 0


def test_after_the_reply(served: App) -> None:
    counts = Counts(served)
    with channel_to(served) as channel:
        call = begin(channel, ENCODE, REQUEST)
        assert call.result()
        call.cancel()
        assert call.code() is Code.OK
    counts.settle(started=1, received=1, sent=1, OK=1)


def test_the_connection_is_lost(patient: App) -> None:
    counts = Counts(patient)
    with channel_to(patient) as stays, held_engines() as engines:
        running = begin(stays, ENCODE, REQUEST)
        engines.wait_for_a_run()
        with channel_to(patient) as goes:
            calls = [begin(goes, ENCODE, REQUEST) for _ in range(20)]
            queued_rows(patient, 40)
        assert {ending_of(call).code for call in calls} == {Code.CANCELLED}
        # A later connection is served after the loss of the earlier one has been noticed.
        until(lambda: ending(stays, "/vaeserve.v1.ModelService/ListModels", b"").code, Code.OK)
        engines.release()
        assert running.result()
    until(counts.unanswered, 0)
    ended = counts()
    assert ended["started"] == ended["OK"] + ended.get("CANCELLED", 0) == 21


@pytest.mark.parametrize("timeout", [0, -1, 1e-9])
def test_out_of_time_on_arrival(served: App, timeout: float) -> None:
    with channel_to(served) as channel:
        # The client rounds a nanosecond up to a millisecond, which may do.
        code = ending(channel, ENCODE, REQUEST, timeout=timeout).code
        assert code in (Code.DEADLINE_EXCEEDED, Code.OK)
        assert ending(channel, ENCODE, REQUEST).code is Code.OK


@pytest.mark.parametrize("timeout", [None, 1e4, 1e9])
def test_a_time_that_never_comes(served: App, timeout: float | None) -> None:
    with channel_to(served) as channel:
        assert ending(channel, ENCODE, REQUEST, timeout=timeout).code is Code.OK
