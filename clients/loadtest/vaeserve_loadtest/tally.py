"""What one process counts during a run; the tallies of several add up to that of the run."""

from collections import Counter
from dataclasses import dataclass, field

from vaeserve import VaeserveError
from vaeserve_loadtest.latencies import Latencies
from vaeserve_loadtest.load import Load

_MOST_INTERVALS = 60
_TIMELINE_DIGITS = 2


@dataclass
class PartTally:
    """Requests of one part of the mix.

    Attributes:
        latencies: of those that succeeded.
        answered_in_time: answers that came within the measured time.
        errors: failures by code and reason.
    """

    latencies: Latencies = field(default_factory=Latencies)
    answered_in_time: int = 0
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, other: "PartTally") -> None:
        """Count another's too."""
        self.latencies.add(other.latencies)
        self.answered_in_time += other.answered_in_time
        self.errors.update(other.errors)


@dataclass
class Interval:
    """A stretch of the measured time, by when requests were to start.

    Attributes:
        latencies: of the requests that succeeded.
        failed: those that did not.
    """

    latencies: Latencies = field(default_factory=lambda: Latencies(_TIMELINE_DIGITS))
    failed: int = 0


@dataclass
class Tally:
    """Counts of the requests that were to start in the measured time.

    Attributes:
        parts: in the order of the load's mix.
        timeline: intervals of equal length.
        lags: how late requests were started.
        dropped: requests that were not sent.
        cpu_shares: cores' worth of time that each process used.
    """

    parts: list[PartTally]
    timeline: list[Interval]
    lags: Latencies = field(default_factory=Latencies)
    dropped: int = 0
    cpu_shares: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, load: Load) -> "Tally":
        """An empty one."""
        intervals = min(_MOST_INTERVALS, max(1, round(load.duration_s)))
        return cls([PartTally() for _ in load.mix], [Interval() for _ in range(intervals)])

    def add(self, other: "Tally") -> None:
        """Count another's too."""
        for part, its in zip(self.parts, other.parts, strict=True):
            part.add(its)
        for interval, its_interval in zip(self.timeline, other.timeline, strict=True):
            interval.latencies.add(its_interval.latencies)
            interval.failed += its_interval.failed
        self.lags.add(other.lags)
        self.dropped += other.dropped
        self.cpu_shares += other.cpu_shares


@dataclass
class Snapshot:
    """How a run is going.

    Attributes:
        share: of the run's time that has passed, 0 .. 1.
        recent: latencies since the last snapshot, warm-up included.
        failed: failures since then.
    """

    share: float
    recent: Latencies = field(default_factory=lambda: Latencies(_TIMELINE_DIGITS))
    failed: int = 0


class Recorder:
    """Takes each request's moments and outcome; knows which of them are measured.

    Args:
        load: what is sent.
        began: moment the run began; the warm-up comes first. All moments are of one clock, seconds.
    """

    def __init__(self, load: Load, began: float) -> None:
        self.start = began + load.warmup_s
        self.end = self.start + load.duration_s
        self.tally = Tally.of(load)
        self._length = load.warmup_s + load.duration_s
        self._interval = load.duration_s / len(self.tally.timeline)
        self._snapshot = Snapshot(0.0)

    def succeeded(self, part: int, intended: float, sent: float, done: float) -> None:
        """Count an answer.

        Args:
            part: index in the mix.
            intended: when the request was to start; in a closed loop, when it did.
            sent: when it was started.
            done: when its answer was there.
        """
        latency = done - intended
        self._snapshot.recent.record(latency)
        counts = self.tally.parts[part]
        counts.answered_in_time += self._measured(done)
        if self._measured(intended):
            counts.latencies.record(latency)
            self.tally.lags.record(sent - intended)
            self._at(intended).latencies.record(latency)

    def failed(self, part: int, intended: float, error: VaeserveError) -> None:
        """Count a failure by its code and reason."""
        self._snapshot.failed += 1
        if self._measured(intended):
            self.tally.parts[part].errors[error.code, error.reason] += 1
            self._at(intended).failed += 1

    def dropped(self, intended: float) -> None:
        """Count a request that was not sent."""
        self.tally.dropped += self._measured(intended)

    def snapshot(self, now: float) -> Snapshot:
        """What happened since the last one."""
        taken, self._snapshot = self._snapshot, Snapshot(0.0)
        taken.share = min(1.0, max(0.0, 1 - (self.end - now) / self._length))
        return taken

    def _measured(self, moment: float) -> bool:
        return self.start <= moment < self.end

    def _at(self, moment: float) -> Interval:
        number = int((moment - self.start) / self._interval)
        return self.tally.timeline[min(number, len(self.tally.timeline) - 1)]
