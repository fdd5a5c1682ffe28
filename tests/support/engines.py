"""Engines that tests control: gated, failing, out of memory."""

import threading
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np

from vaeserve_server.batcher import Batcher
from vaeserve_server.call import Call, Floats, Outputs
from vaeserve_server.engine import EngineMemoryError
from vaeserve_server.packing import Buffers

Answer = Future[Outputs]
ROW_SHAPE = (3,)
BAD_ROW = 1_000_000.0


class FakeEngine:
    """Returns (2 x, -x) of its rows; can be held, and can be told to fail."""

    provider = "FakeExecutionProvider"
    waited_s = 0.0

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.failure: Callable[[Floats], BaseException | None] = lambda _: None
        self.started = threading.Semaphore(0)
        self._gate = threading.Event()
        self._gate.set()

    def hold(self) -> None:
        self._gate.clear()

    def release(self) -> None:
        self._gate.set()

    def bucket(self, rows: int) -> int:
        return rows

    def run(self, rows: Floats, *, as_levels: bool) -> Outputs:
        assert not as_levels
        self.batches.append(len(rows))
        self.started.release()
        assert self._gate.wait(30), "the test never released the engine"
        failure = self.failure(rows)
        if failure is not None:
            raise failure
        return 2 * rows, -rows


class WatchedEngine(FakeEngine):
    """Remembers which thread ran what, what failed, and whether two runs met."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[int] = []
        self.failed: set[float] = set()
        self.met = False
        self._running = threading.Lock()

    def run(self, rows: Floats, *, as_levels: bool) -> Outputs:
        if not self._running.acquire(blocking=False):
            self.met = True
            raise AssertionError("two runs at once")
        try:
            self.threads.append(threading.get_ident())
            before = rows.copy()
            outputs = super().run(rows, as_levels=as_levels)
            np.testing.assert_array_equal(rows, before)  # nobody packs while this runs
            if (rows == BAD_ROW).any():
                self.failed |= set(rows[:, 0].tolist())
                raise ValueError("bad row")
            return outputs
        finally:
            self._running.release()


def out_of_memory_above(limit: int) -> Callable[[Floats], BaseException | None]:
    """Fail runs of more than `limit` rows as an engine without memory does."""
    return lambda rows: EngineMemoryError(f"{len(rows)} rows") if len(rows) > limit else None


def host_buffers(max_rows: int) -> Buffers:
    """What a packer of these rows needs."""
    return Buffers(np.zeros((max_rows, *ROW_SHAPE), np.float32))


class Recorder:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.inline: list[bool] = []
        self.waits: list[float] = []
        self.outputs: list[Outputs] = []
        self.rejections: list[str] = []

    def ran(
        self,
        *,
        rows: int,
        padding: int,
        seconds: float,
        waits: list[float],
        close_reason: str,
        inline: bool,
    ) -> None:
        assert rows > 0
        assert padding == 0
        assert seconds >= 0
        assert all(wait >= 0 for wait in waits)
        self.reasons.append(close_reason)
        self.inline.append(inline)
        self.waits += waits

    def computed(self, outputs: Outputs) -> None:
        self.outputs.append(outputs)

    def rejected(self, reason: str) -> None:
        self.rejections.append(reason)


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def numbered(first: int, count: int) -> Floats:
    """Rows that can be told apart: row i holds first + i."""
    return np.arange(first, first + count, dtype=np.float32)[:, None].repeat(*ROW_SHAPE, axis=1)


def submitted(batcher: Batcher, rows: Floats, call: Call | None = None) -> Answer:
    """Submit rows; the outcome as a future."""
    answer: Answer = Future()

    def done(outcome: Outputs | Exception) -> None:
        if isinstance(outcome, Exception):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)

    batcher.submit(rows, call or Call(), done)
    return answer


def occupied(engine: FakeEngine, batcher: Batcher) -> Answer:
    """Keep an engine busy with a row of its own until released."""
    engine.hold()
    answer = submitted(batcher, numbered(-1, 1))
    assert engine.started.acquire(timeout=10)
    return answer


def check_own_rows(answer: Answer, rows: Floats) -> None:
    double, negative = answer.result(10)
    np.testing.assert_array_equal(double, 2 * rows)
    np.testing.assert_array_equal(negative, -rows)
