"""Messages that differ from an earlier one in their array bytes only are not parsed again.

Callers send the same model, shape and options over and over. Where the array lies in such a message
is learnt once, and proved: the message with every bit of the array inverted must come to the same
request with exactly the inverted array. What stands before and behind it then decides what a
message means, whatever its array holds. Parsing and checking cost several times a small graph's
share of a batch, and copy a large array twice.
"""

import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vaeserve_server.call import Build, Graph, Handled, Plain
from vaeserve_server.packing import AsLevels, Sent, bare

# What a hostile caller can make us remember: sizes, layouts of one size, and bytes of each.
_MOST_SIZES = 256
_MOST_LAYOUTS = 4
_MOST_FRAME = 512

# Of the sizes that have no room, one in so many gets it.
_MAKES_ROOM = 32

# Messages of one size that may be tried in vain, each at the cost of parsing it twice.
_MOST_TRIES = 16


class _Layout(NamedTuple):
    head: bytes
    tail: bytes
    graph: Graph
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    as_levels: bool
    build: Build


class Layouts:
    """What is known of one method's messages."""

    def __init__(self) -> None:
        """Know nothing."""
        self._by_size: dict[int, tuple[_Layout, ...]] = {}
        self._tries: dict[int, int] = {}
        self._newer = 0
        self._learning = threading.Lock()

    def find(self, data: bytes) -> Plain | None:
        """What a message asks for, if its like was seen before; rows are still in it."""
        for head, tail, graph, shape, dtype, as_levels, build in self._by_size.get(len(data), ()):
            if data.startswith(head) and data.endswith(tail):
                array = memoryview(data)[len(head) : len(data) - len(tail)]
                rows = Sent(array, shape, dtype)
                return Plain(graph, AsLevels(rows) if as_levels else rows, build)
        return None

    def learn(self, data: bytes, plain: Plain, handle: Callable[[bytes], Handled]) -> None:
        """Remember a message that was just parsed.

        Args:
            data: the message.
            plain: what it asks for.
            handle: parses and checks a message.
        """
        rows, as_levels = bare(plain.rows), type(plain.rows) is AsLevels
        if not isinstance(rows, np.ndarray) or not self._may_try(len(data)):
            return
        array = rows.tobytes()
        at = data.find(array)
        head, tail = data[:at], data[at + len(array) :]
        if at < 0 or len(head) + len(tail) > _MOST_FRAME:
            return
        inverted = (~np.frombuffer(array, np.uint8)).tobytes()
        try:
            other = handle(head + inverted + tail)
        except Exception:  # noqa: BLE001  the bytes were not the array's, which harms nobody
            return
        others = bare(other.rows) if isinstance(other, Plain) else None
        if not isinstance(other, Plain) or not isinstance(others, np.ndarray):
            return
        same = (
            other.graph is plain.graph
            and other.build == plain.build
            and type(other.rows) is type(plain.rows)
            and (others.shape, others.dtype) == (rows.shape, rows.dtype)
            and others.tobytes() == inverted
        )
        if same:
            layout = _Layout(
                head, tail, plain.graph, rows.shape, rows.dtype, as_levels, plain.build
            )
            self._keep(len(data), layout)

    def _may_try(self, size: int) -> bool:
        with self._learning:
            tries = self._tries.get(size, 0)
            if tries >= _MOST_TRIES:
                return False
            if not tries and len(self._tries) >= _MOST_SIZES:
                # The oldest size makes room; if it is still sent, it is learnt again. Not for every
                # new one: learning costs more than parsing, and there may be more than have room.
                self._newer = (self._newer + 1) % _MAKES_ROOM
                if self._newer:
                    return False
                oldest = next(iter(self._tries))
                del self._tries[oldest]
                self._by_size.pop(oldest, None)
            self._tries[size] = tries + 1
            return True

    def _keep(self, size: int, layout: _Layout) -> None:
        with self._learning:
            if size in self._tries:  # else others have taken its room meanwhile
                known = self._by_size.get(size, ())
                self._by_size[size] = (layout, *known)[:_MOST_LAYOUTS]
