"""Who of a batcher's slots and engines is free, and which batches they have in hand."""

import math
from collections import deque
from dataclasses import dataclass

from vaeserve_server.runner import Runner, Work

# Of a run's predicted time: after it the next batch is packed. Later, the engine would have to wait
# for it; earlier, it would be smaller than it could be.
_PACK_AHEAD = 0.75


@dataclass(slots=True)
class _Device:
    batches: int = 0  # in hand: being packed, packed or run
    running: int = 0  # rows of the batch that is run
    began: float = 0.0  # when that was
    ahead_from: float = 0.0  # when another one may be packed, if one runs


class Crew:
    """The runners of a batcher; the batcher guards it.

    Attributes:
        waiting_rows: of batches that are being packed, or wait for their engine.
    """

    def __init__(self, runners: list[Runner]) -> None:
        """All of them are free."""
        self.waiting_rows = 0
        self._free = runners
        self._devices = {runner.device: _Device() for runner in runners}
        self._packed: deque[Work] = deque()
        self._running: set[int] = set()  # engines

    @property
    def devices(self) -> int:
        """How many devices they are on."""
        return len(self._devices)

    @property
    def running(self) -> list[tuple[int, float]]:
        """Rows of each batch that is run, and the monotonic time at which that began."""
        each = self._devices.values()
        return [(device.running, device.began) for device in each if device.running]

    def idle(self) -> Runner | None:
        """A runner whose device has nothing to do, if any."""
        for runner in self._free:
            if not self._devices[runner.device].batches:
                return runner
        return None

    def next(self, now: float, *, full: bool) -> Runner | None:
        """Who shall pack the next batch now, if anybody.

        On a device that is free; or, to pack ahead, on the one with the least to do.

        Args:
            now: monotonic time.
            full: whether a full batch waits. A smaller one does better to grow until the running
                one is nearly over.
        """
        runner = self._least_busy()
        if runner is None:
            return None
        device = self._devices[runner.device]
        return runner if full or not device.batches or now >= device.ahead_from else None

    def ahead_from(self) -> float:
        """When `next` will have somebody whatever waits; infinite if that is not known."""
        runner = self._least_busy()
        return math.inf if runner is None else self._devices[runner.device].ahead_from

    def begin(self, runner: Runner, rows: int) -> None:
        """A free runner has got a batch, to be packed."""
        self._free.remove(runner)
        device = self._devices[runner.device]
        device.batches += 1
        device.ahead_from = math.inf  # until it runs
        self.waiting_rows += rows

    @property
    def packed(self) -> bool:
        """Whether a packed batch waits for its engine."""
        return bool(self._packed)

    def put(self, work: Work) -> None:
        """A batch is packed."""
        work.ahead = work.packed is not None and id(work.runner.engine) in self._running
        self._packed.append(work)

    def take(self) -> Work | None:
        """The first packed batch whose engine is free, if any."""
        for work in self._packed:
            if id(work.runner.engine) not in self._running:
                self._packed.remove(work)
                return work
        return None

    def run(self, work: Work, now: float, seconds: float) -> None:
        """A batch is going to be run, for so many seconds as predicted."""
        self.waiting_rows -= work.taken
        self._running.add(id(work.runner.engine))
        device = self._devices[work.runner.device]
        device.running, device.began = work.taken, now
        device.ahead_from = now + _PACK_AHEAD * seconds

    def end(self, work: Work) -> None:
        """A batch was run: engine and runner are free."""
        self._running.discard(id(work.runner.engine))
        self._free.append(work.runner)
        device = self._devices[work.runner.device]
        device.batches -= 1
        device.running = 0
        if any(other.runner.device == work.runner.device for other in self._packed):
            device.ahead_from = math.inf  # until that one runs

    def disband(self) -> list[Work]:
        """Nobody is free any more.

        Returns:
            what was packed and will not be run.
        """
        self._free.clear()
        left = list(self._packed)
        self._packed.clear()
        self.waiting_rows -= sum(work.taken for work in left)
        return left

    def _least_busy(self) -> Runner | None:
        if not self._free:
            return None
        if len(self._devices) == 1:
            return self._free[-1]  # its buffers were used last
        return min(self._free, key=lambda runner: self._devices[runner.device].batches)
