"""The window of one stream: order, room, end; against a plain model of it."""

from collections.abc import Iterator

import pytest
from google.protobuf.message import Message
from hypothesis import given, strategies as st

from vaeserve.v1 import vae_service_pb2 as pb
from vaeserve_server.stream import WINDOW, Slot, Window

HALF_CLOSE = "half-close"
MESSAGE = "message"
ANSWER = "answer"
TAKE = "take"

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just(MESSAGE), st.integers(0, 40), st.sampled_from([1, 1000, 3 << 20])),
        st.tuples(st.just(ANSWER), st.integers(0, 100), st.just(0)),
        st.tuples(st.just(TAKE), st.integers(1, 20), st.just(0)),
    ),
    max_size=60,
)


def requests(first: int, count: int) -> Iterator[Message]:
    return (pb.SampleRequest(n=number) for number in range(first, first + count))


@given(steps=STEPS)
def test_every_request_is_answered_once_and_in_order(
    steps: list[tuple[str, int, int]],
) -> None:
    window = Window()
    asked = 0
    waiting: list[tuple[int, Slot]] = []
    answers: list[bytes] = []
    taken_on: list[int] = []

    def fill_up() -> None:
        while (taken := window.next_request()) is not None:
            request, slot = taken
            assert isinstance(request, pb.SampleRequest)
            taken_on.append(request.n)
            waiting.append((request.n, slot))
            assert len(taken_on) - len(answers) <= WINDOW

    def answer(which: int) -> None:
        number, slot = waiting.pop(which % len(waiting))
        slot.outcome = b"%d" % number

    def take() -> bool:
        outcome = window.take()
        if isinstance(outcome, bytes):
            answers.append(outcome)
        return outcome is not None

    for step, number, size in steps:
        if step == MESSAGE and window.wants_message:
            window.message(requests(asked, number), size)
            asked += number
        elif step == ANSWER and waiting:
            answer(number)
        elif step == TAKE:
            for _ in range(number):
                take()
        fill_up()
    window.half_closed = True
    assert not window.wants_message
    while not window.done:
        fill_up()
        if not take():
            assert waiting, "nothing can happen any more"
            answer(-1)
    assert answers == [b"%d" % number for number in range(asked)]
    assert window.take() is None


def test_no_more_than_the_window_is_taken_on() -> None:
    window = Window()
    window.message(requests(0, 1000), 1)
    slots = []
    while (taken := window.next_request()) is not None:
        slots.append(taken[1])
    assert len(slots) == WINDOW
    assert not window.has_room
    slots[0].outcome = b""
    assert not window.has_room  # its place is free once the answer was taken
    window.take()
    assert window.has_room


def test_a_request_not_yet_made_is_still_to_be_answered() -> None:
    window = Window()
    window.message(requests(0, 1), 1)
    window.half_closed = True
    assert not window.done
    assert window.next_request() is not None
    assert window.next_request() is None
    window.take()
    assert not window.done


def test_large_messages_take_the_room_of_many() -> None:
    window = Window()
    for _ in range(2):
        assert window.wants_message
        window.message(requests(0, 1), 3 << 20)
        assert window.next_request() is not None
        assert window.next_request() is None
    assert not window.wants_message


def test_a_request_that_cannot_be_made_ends_the_message() -> None:
    def broken() -> Iterator[Message]:
        yield pb.SampleRequest(n=1)
        raise ValueError("a bug")

    window = Window()
    window.message(broken(), 1)
    assert window.next_request() is not None
    with pytest.raises(ValueError, match="a bug"):
        window.next_request()
    assert window.next_request() is None
    assert not window.done
    window.half_closed = True
    assert not window.done  # the first request is unanswered
