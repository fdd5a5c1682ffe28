"""How a call of any size becomes requests within the server's limits. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from vaeserve._channel import MAX_MESSAGE_BYTES
from vaeserve._errors import InvalidInput
from vaeserve._info import Limits

_ENVELOPE_BYTES = 4096  # names, shapes, ids and field headers of any message, generously


class Reply(Protocol):
    """What all answers have in common."""

    version: int


RequestT = TypeVar("RequestT")
ReplyT = TypeVar("ReplyT", bound=Reply)
ResultT = TypeVar("ResultT")


@dataclass(slots=True)
class Plan(Generic[RequestT, ReplyT, ResultT]):
    """How a call is carried out.

    Attributes:
        parts: which rows each request takes, in order, without gaps.
        build: makes the request for a part. Called just before sending, so that only what is under
            way is copied.
        join: makes the result of the answers, in the order of the parts.
    """

    parts: Sequence[range]
    build: Callable[[range], RequestT]
    join: Callable[[Sequence[ReplyT]], ResultT]


def split(
    limits: Limits,
    rows: int,
    *,
    request_bytes: int,
    reply_row: int,
    weight: int = 1,
    most: int | None = None,
) -> list[range]:
    """Cut rows into requests that keep the server's limits.

    Args:
        limits: what the server accepts; 0 where it states none.
        rows: rows of the whole call, at least 1.
        request_bytes: bytes of all rows in their requests.
        reply_row: bytes of a row in the answer.
        weight: rows that one of these counts as.
        most: rows of a request for another reason; None for none.

    Raises:
        InvalidInput: a single row exceeds a limit.
    """
    given = limits.max_message_bytes
    room = (given if 0 < given < MAX_MESSAGE_BYTES else MAX_MESSAGE_BYTES) - _ENVELOPE_BYTES
    most_rows = limits.max_rows // weight if limits.max_rows else rows
    if most is None:
        most = rows
    if rows <= most_rows and rows <= most and request_bytes <= room and rows * reply_row <= room:
        return [range(rows)]  # most calls
    if not most_rows:
        raise InvalidInput(f"{weight} steps are more than the {limits.max_rows} rows of a request")
    row_bytes = max(request_bytes // rows, reply_row)
    if row_bytes > room:
        raise InvalidInput(f"one row takes {row_bytes} bytes, a message has room for {room}")
    size = min(rows, most_rows, most, room // row_bytes)
    return [range(start, min(start + size, rows)) for start in range(0, rows, size)]
