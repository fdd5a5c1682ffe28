"""A request's steps, without a batcher: every end reaches the caller, once."""

import numpy as np
import pytest

from vaeserve_server.call import Call, Outputs, Timing, answer_with
from vaeserve_server.timing import timing_trailer

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


@pytest.mark.parametrize(
    ("name", "entries"), [("digits", 64), ("n" * 240, 20), ("\u00e9" * 120, 20)]
)
def test_timings_fit_into_trailers(name: str, entries: int) -> None:
    """gRPC may drop trailers over 8 KB, and fails the call where they are over 16 KB."""
    call = Call(timings=[])
    for _ in range(1000):
        call.note(Timing(f"{name}-encoder", 1e4, 1e4, 4096, "timeout"))
    ((_, value),) = timing_trailer(call)
    assert len(value.split(",")) >= entries
    assert len(value.encode()) < 7 * 1024 + 1
