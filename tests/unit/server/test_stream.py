"""The window of one stream: order, room, end; against a plain model of it."""

from collections.abc import Iterator

import pytest
from google.protobuf.message import Message
from hypothesis import given, strategies as st

from vaeserve.v1 import vae_service_pb2 as pb
from vaeserve_server.errors import Overloaded
from vaeserve_server.quota import SMALL_ANSWER, Quota
from vaeserve_server.stream import MOST_BYTES, WINDOW, Slot, Window

HALF_CLOSE = "half-close"
MESSAGE = "message"
ANSWER = "answer"
TAKE = "take"

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just(MESSAGE), st.integers(0, 40), st.sampled_from([1, 1000, 3 << 20])),
        st.tuples(st.just(ANSWER), st.integers(0, 100), st.sampled_from([0, SMALL_ANSWER])),
        st.tuples(st.just(TAKE), st.integers(1, 20), st.just(0)),
    ),
    max_size=60,
)


def requests(first: int, count: int) -> Iterator[Message]:
    return (pb.SampleRequest(n=number) for number in range(first, first + count))


def quota(most: int = 1 << 40) -> Quota:
    return Quota(most, "answers")


def is_empty(held: Quota, most: int = 1 << 40) -> bool:
    """Whether it has room for all that it may hold."""
    try:
        held.acquire(most)
    except Overloaded:
        return False
    return True


def begun(answer: bytes = b"small", held: Quota | None = None) -> Window:
    """A window that has had an answer."""
    window = Window(held or quota())
    window.fill(window.place(1), answer)
    assert window.take() == answer
    window.sent()
    return window


@given(steps=STEPS)
def test_every_request_is_answered_once_and_in_order(
    steps: list[tuple[str, int, int]],
) -> None:
    held = quota()
    window = Window(held)
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

    def answer(which: int, padding: int = 0) -> None:
        number, slot = waiting.pop(which % len(waiting))
        window.fill(slot, b"%d" % number + b" " * padding)

    def take() -> bool:
        outcome = window.take()
        if isinstance(outcome, bytes):
            answers.append(outcome.rstrip())
            window.sent()
        return outcome is not None

    for step, number, size in steps:
        if step == MESSAGE and window.wants_message:
            window.message(requests(asked, number), size)
            asked += number
        elif step == ANSWER and waiting:
            answer(number, size)
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
    assert is_empty(held)


def test_no_more_than_the_window_is_taken_on() -> None:
    window = begun()
    window.message(requests(0, 1000), 1)
    slots = []
    while (taken := window.next_request()) is not None:
        slots.append(taken[1])
    assert len(slots) == WINDOW
    assert not window.has_room
    window.fill(slots[0], b"")
    assert not window.has_room  # its place is free once the answer was taken
    window.take()
    assert window.has_room


def test_the_first_request_is_answered_alone() -> None:
    """Nothing else tells how large answers are."""
    window = Window(quota())
    slot = window.place(1)
    assert not window.has_room
    window.fill(slot, b"small")
    assert window.has_room


def test_a_request_not_yet_made_is_still_to_be_answered() -> None:
    window = Window(quota())
    window.message(requests(0, 1), 1)
    window.half_closed = True
    assert not window.done
    assert window.next_request() is not None
    assert window.next_request() is None
    window.take()
    assert not window.done


def test_large_messages_take_the_room_of_many() -> None:
    window = begun()
    for _ in range(2):
        assert window.wants_message
        window.message(requests(0, 1), 3 << 20)
        assert window.next_request() is not None
        assert window.next_request() is None
    assert not window.wants_message


@pytest.mark.parametrize(("answer", "in_flight"), [(MOST_BYTES // 4, 4), (3 * MOST_BYTES, 1)])
def test_large_answers_take_the_room_of_many(answer: int, in_flight: int) -> None:
    """Before they are there, as large as those before; while they wait, as they are."""
    window = begun(bytes(answer))
    slots = []
    while window.has_room:
        slots.append(window.place(1))
    assert len(slots) == in_flight
    window.fill(slots[-1], bytes(answer))
    assert not window.has_room
    window.fill(slots[0], bytes(answer))
    assert window.take() == bytes(answer)
    assert window.has_room


def test_an_answer_without_room_is_refused_in_its_turn() -> None:
    held = quota(100_000)
    window = begun(held=held)
    first, second, third = (window.place(1) for _ in range(3))
    window.fill(third, b"x" * SMALL_ANSWER)
    window.fill(second, bytes(60_000))
    window.fill(first, bytes(60_000))
    refusal = window.take()
    assert isinstance(refusal, Overloaded)
    assert refusal.reason == "QUEUE_FULL"
    assert refusal.retry_after_s
    assert window.take() == bytes(60_000)
    window.sent()
    assert window.take() == b"x" * SMALL_ANSWER
    assert is_empty(held, 100_000)


def test_an_answer_is_held_until_it_is_sent() -> None:
    held = quota(100_000)
    window = begun(held=held)
    window.fill(window.place(1), bytes(60_000))
    assert window.take()
    assert not is_empty(held, 100_000)
    window.sent()
    assert is_empty(held, 100_000)


def test_a_window_that_is_closed_holds_nothing() -> None:
    held = quota(1_000_000)
    window = begun(held=held)
    slots = [window.place(1) for _ in range(3)]
    for slot in slots[:2]:
        window.fill(slot, bytes(60_000))
    assert window.take()  # and is being sent
    window.close()
    window.fill(slots[2], bytes(60_000))  # too late
    assert window.take() is None
    assert is_empty(held, 1_000_000)


def test_a_request_that_cannot_be_made_ends_the_message() -> None:
    def broken() -> Iterator[Message]:
        yield pb.SampleRequest(n=1)
        raise ValueError("a bug")

    window = begun()
    window.message(broken(), 1)
    assert window.next_request() is not None
    with pytest.raises(ValueError, match="a bug"):
        window.next_request()
    assert window.next_request() is None
    assert not window.done
    window.half_closed = True
    assert not window.done  # the first request is unanswered
