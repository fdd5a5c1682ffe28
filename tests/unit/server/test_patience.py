"""Calls that keep a thread waiting are cancelled, others never."""

import threading
from collections.abc import Iterator
from typing import Any, cast

import grpc
import pytest

from vaeserve_server.patience import Patience

SOON_S = 0.05


class Caller:
    """As much of a grpc.ServicerContext as matters here."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        self.cancelled.set()


def waiting(patience: Patience, caller: Caller) -> Any:
    return patience.waiting_for(cast("grpc.ServicerContext", caller))


@pytest.fixture
def patience() -> Iterator[Patience]:
    patience = Patience(SOON_S)
    yield patience
    patience.close()


def test_only_those_who_are_waited_for_are_cancelled(patience: Patience) -> None:
    quick, slow, slower = Caller(), Caller(), Caller()
    with waiting(patience, slow), waiting(patience, slower):
        with waiting(patience, quick):
            pass
        assert slow.cancelled.wait(20)
        assert slower.cancelled.wait(20)
    assert not quick.cancelled.is_set()
    later = Caller()
    with waiting(patience, later):  # the timer is set anew
        assert later.cancelled.wait(20)


def test_a_later_wait_of_the_same_call_begins_anew(patience: Patience) -> None:
    caller, other = Caller(), Caller()
    with waiting(patience, caller):
        pass
    with waiting(patience, other):
        assert other.cancelled.wait(20)
    assert not caller.cancelled.is_set()
    with waiting(patience, caller):
        assert caller.cancelled.wait(20)


def test_nothing_is_left_behind() -> None:
    before = set(threading.enumerate())
    patience = Patience(1000)
    with waiting(patience, Caller()):
        (timer,) = set(threading.enumerate()) - before
        patience.close()
    timer.join(20)
    assert not timer.is_alive()
    with waiting(patience, Caller()):
        assert set(threading.enumerate()) <= before
