import threading

from vaeserve_server.turn import Turn


class Queue:
    """Counts its runs; the first of them makes work for another queue."""

    def __init__(self, turn: Turn, follower: "Queue | None" = None) -> None:
        self.runs = 0
        self._turn = turn
        self._follower = follower

    def pump(self) -> None:
        self.runs += 1
        if self._follower is not None:
            assert self._turn.add(self._follower, full=True)


def test_without_an_owner_every_queue_looks_after_itself() -> None:
    turn = Turn()
    queue = Queue(turn)
    assert not turn.add(queue, full=True)
    assert not turn.full
    turn.end()
    assert queue.runs == 0


def test_each_queue_runs_once_a_turn_however_often_it_was_added() -> None:
    turn = Turn()
    turn.own()
    queues = [Queue(turn) for _ in range(3)]
    for queue in queues * 4:
        assert turn.add(queue, full=False)
    turn.end()
    turn.end()
    assert [queue.runs for queue in queues] == [1, 1, 1]


def test_what_a_run_submits_belongs_to_the_same_turn() -> None:
    turn = Turn()
    turn.own()
    follower = Queue(turn)
    first = Queue(turn, follower)
    turn.add(first, full=False)
    turn.end()
    assert (first.runs, follower.runs) == (1, 1)
    assert not turn.full  # the next turn waits again


def test_a_full_queue_makes_the_turn_full_until_its_end() -> None:
    turn = Turn()
    turn.own()
    turn.add(Queue(turn), full=False)
    assert not turn.full
    turn.add(Queue(turn), full=True)
    turn.add(Queue(turn), full=False)
    before = turn.full
    turn.end()
    assert (before, turn.full) == (True, False)


def test_reading_takes_what_the_fastest_turn_took_for_a_request() -> None:
    moments = iter([10.0, 16.0, 20.0, 22.0, 30.0, 39.0])
    turn = Turn(lambda: next(moments))
    turn.own()
    found = []
    for requests in (3, 2, 1):
        turn.begin()
        for _ in range(requests):
            turn.add(Queue(turn), full=False)
        turn.end()
        found.append(turn.reading_s)
    assert found[:2] == [2.0, 1.0]
    assert 1.0 < found[2] < 1.1  # a slow turn; yet the machine may have become slower


def test_a_turn_without_requests_tells_nothing_of_reading() -> None:
    turn = Turn(lambda: 1.0)
    turn.own()
    turn.begin()
    turn.end()
    assert turn.reading_s == 0.0


def test_other_threads_have_no_part_in_it() -> None:
    turn = Turn()
    turn.own()
    queue = Queue(turn)
    added: list[bool] = []
    thread = threading.Thread(target=lambda: added.append(turn.add(queue, full=True)))
    thread.start()
    thread.join()
    assert added == [False]
    assert not turn.full
    turn.end()
    assert queue.runs == 0
