"""A request's steps, without a batcher: every end reaches the caller, once."""

import numpy as np

from vaeserve_server.call import Outputs, answer_with

OUTPUTS = (np.zeros((1, 3), np.float32),)


def ends(outcome: Outputs | Exception, failure: Exception | None = None) -> list[object]:
    """What the caller of a plain run is told."""

    def build(_: Outputs) -> bytes:
        if failure is not None:
            raise failure
        return b"reply"

    replies: list[bytes | Exception] = []
    answer_with(build, replies.append, outcome)
    return list(replies)


def test_a_reply_that_cannot_be_built_is_the_callers_to_see() -> None:
    failure = MemoryError("no room for the reply")
    assert ends(OUTPUTS, failure) == [failure]


def test_outputs_become_the_reply_and_errors_pass() -> None:
    assert ends(OUTPUTS) == [b"reply"]
    error = RuntimeError("the run failed")
    assert ends(error) == [error]
