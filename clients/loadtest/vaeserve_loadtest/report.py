"""What a run measured: counts, latencies, and what to be wary of."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from vaeserve_loadtest.latencies import Latencies
from vaeserve_loadtest.load import Load
from vaeserve_loadtest.server_view import ServerView
from vaeserve_loadtest.tally import Interval, PartTally, Tally

_CPU_NEAR_LIMIT = 0.9  # of a core, which is all that one event loop can use
_LAG_SHARE = 0.5  # of the latency's own p99
_RATE_KEPT = 0.95  # share of the offered requests that a keeping server answers in the window
_CURVE = (0, 10, 25, 50, 75, 90, 95, 98, 99, 99.5, 99.9, 99.95, 99.99)


@dataclass(frozen=True, slots=True)
class Latency:
    """Latencies of the requests that succeeded, milliseconds.

    Attributes:
        mean: arithmetic mean.
        p50: half took no longer.
        p90: 90 % took no longer.
        p99: 99 % took no longer.
        p99_9: 99.9 % took no longer.
        max: the slowest.
    """

    mean: float
    p50: float
    p90: float
    p99: float
    p99_9: float
    max: float

    @classmethod
    def of(cls, latencies: Latencies) -> "Latency | None":
        """None where there are none."""
        if not latencies.count:
            return None
        return cls(
            mean=1e3 * latencies.sum_s / latencies.count,
            p50=latencies.percentile_ms(50),
            p90=latencies.percentile_ms(90),
            p99=latencies.percentile_ms(99),
            p99_9=latencies.percentile_ms(99.9),
            max=1e3 * latencies.max_s,
        )


@dataclass(frozen=True, slots=True)
class ErrorCount:
    """How many requests failed in one way.

    Attributes:
        code: gRPC status.
        reason: the server's reason; empty when it gave none.
        count: requests.
    """

    code: str
    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class PartReport:
    """One part of the mix.

    Attributes:
        label: the part, as it is written.
        succeeded: requests answered.
        failed: requests that ended with an error.
        latency: None when nothing succeeded.
    """

    label: str
    succeeded: int
    failed: int
    latency: Latency | None


@dataclass(frozen=True, slots=True)
class Second:
    """A stretch of the timeline.

    Attributes:
        at_s: its middle, seconds from the beginning of the measured time.
        succeeded: requests that were to start in it and were answered, a second.
        failed: those that were not, a second.
        p50_ms: of their latency; None when nothing succeeded.
        p99_ms: the same.
    """

    at_s: float
    succeeded: float
    failed: float
    p50_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A run's result, over the requests that were to start in the measured time.

    Attributes:
        load: what was sent.
        succeeded: requests answered.
        failed: requests that ended with an error.
        dropped: requests never sent: too many were under way, or this program was too slow.
        requests_per_second: answers a second within the measured time.
        rows_per_second: the same in rows.
        latency: None when nothing succeeded. In an open loop it counts from the intended start.
        start_lag_p99_ms: how late this program started requests (99th percentile), which the
            latency includes; None in a closed loop.
        errors: failures by kind, the most frequent first.
        cpu_share: of a core, used by the busiest sending process; it has no more than one.
        parts: the mix, part by part.
        timeline: the measured time, in about as many stretches as it has seconds.
        percentiles: (percent, milliseconds) of the latency's distribution.
        server: the server's own view; None where it was not asked.
        latencies: all latencies, for counts of one's own; not in the JSON.
    """

    load: Load
    succeeded: int
    failed: int
    dropped: int
    requests_per_second: float
    rows_per_second: float
    latency: Latency | None
    start_lag_p99_ms: float | None
    errors: tuple[ErrorCount, ...]
    cpu_share: float
    parts: tuple[PartReport, ...]
    timeline: tuple[Second, ...]
    percentiles: tuple[tuple[float, float], ...]
    server: ServerView | None
    latencies: Latencies

    @classmethod
    def of(cls, load: Load, tally: Tally, server: ServerView | None = None) -> "Report":
        """Sum up a tally."""
        whole, errors = Latencies(), Counter[tuple[str, str]]()
        for part in tally.parts:
            whole.add(part.latencies)
            errors.update(part.errors)
        answered = [part.answered_in_time / load.duration_s for part in tally.parts]
        opened = load.rate is not None and whole.count
        return cls(
            load=load,
            succeeded=whole.count,
            failed=errors.total(),
            dropped=tally.dropped,
            requests_per_second=sum(answered),
            rows_per_second=sum(
                rate * part.rows for rate, part in zip(answered, load.mix, strict=True)
            ),
            latency=Latency.of(whole),
            start_lag_p99_ms=tally.lags.percentile_ms(99) if opened else None,
            errors=tuple(ErrorCount(*kind, n) for kind, n in errors.most_common()),
            cpu_share=max(tally.cpu_shares, default=0.0),
            parts=tuple(
                _part(part.label, counts)
                for part, counts in zip(load.mix, tally.parts, strict=True)
            ),
            timeline=_timeline(load, tally.timeline),
            percentiles=_percentiles(whole),
            server=server,
            latencies=whole,
        )

    @property
    def requests(self) -> int:
        """Requests that were to start in the measured time."""
        return self.succeeded + self.failed + self.dropped

    @property
    def kept_rate(self) -> bool:
        """Whether an open loop's requests were answered as fast as they came."""
        answered = self.requests_per_second * self.load.duration_s
        return self.load.rate is None or answered >= _RATE_KEPT * self.requests - 1

    @property
    def warnings(self) -> tuple[str, ...]:
        """What stands between the figures and a conclusion about the server."""
        found = []
        if not self.requests:
            found.append("no request was due in the measured time: raise --duration or --rate")
        if self.failed:
            found.append(
                f"{self.failed} of {self.requests} requests failed; latencies are of the others"
            )
        if self.dropped:
            found.append(
                f"{self.dropped} requests were not sent: too many under way, or due too fast"
            )
        if not self.kept_rate:
            found.append(
                f"the rate was not kept: {self.requests_per_second:.1f} requests/s answered "
                f"of {self.requests / self.load.duration_s:.1f}"
            )
        lag = self.start_lag_p99_ms
        if lag is not None and self.latency and lag > _LAG_SHARE * self.latency.p99:
            found.append(
                f"requests started up to {lag:.1f} ms late (p99): the load generator is the limit, "
                "and most of the latency is its own"
            )
        if self.cpu_share >= _CPU_NEAR_LIMIT:
            found.append(
                f"a sending process used {self.cpu_share:.2f} of its core: the load generator may "
                "be the limit, not the server; raise --workers"
            )
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """Plain values, with units in their keys."""
        load = self.load
        settings = asdict(load) | {
            "mix": [asdict(part) for part in load.mix],
            "data": None if load.data is None else str(load.data),
        }
        del settings["tls"], settings["token"]  # how it got in is no result, and a secret
        return {
            "load": settings,
            "requests": self.requests,
            "succeeded": self.succeeded,
            "failed": self.failed,
            "dropped": self.dropped,
            "requests_per_second": self.requests_per_second,
            "rows_per_second": self.rows_per_second,
            "target_requests_per_second": load.rate,
            "kept_rate": self.kept_rate,
            "latency_ms": _latency(self.latency),
            "start_lag_p99_ms": self.start_lag_p99_ms,
            "errors": [asdict(error) for error in self.errors],
            "cpu_share": self.cpu_share,
            "parts": [
                {
                    "label": part.label,
                    "succeeded": part.succeeded,
                    "failed": part.failed,
                    "latency_ms": _latency(part.latency),
                }
                for part in self.parts
            ],
            "timeline": [asdict(second) for second in self.timeline],
            "percentiles_ms": [list(point) for point in self.percentiles],
            "server": None if self.server is None else asdict(self.server),
            "warnings": list(self.warnings),
        }


def _latency(latency: Latency | None) -> dict[str, float] | None:
    return None if latency is None else asdict(latency)


def _part(label: str, counts: PartTally) -> PartReport:
    latencies = counts.latencies
    return PartReport(label, latencies.count, counts.errors.total(), Latency.of(latencies))


def _timeline(load: Load, intervals: list[Interval]) -> tuple[Second, ...]:
    length = load.duration_s / len(intervals)
    return tuple(
        Second(
            at_s=(number + 0.5) * length,
            succeeded=interval.latencies.count / length,
            failed=interval.failed / length,
            p50_ms=interval.latencies.percentile_ms(50) if interval.latencies.count else None,
            p99_ms=interval.latencies.percentile_ms(99) if interval.latencies.count else None,
        )
        for number, interval in enumerate(intervals)
    )


def _percentiles(latencies: Latencies) -> tuple[tuple[float, float], ...]:
    """Points of the distribution, as far as there are latencies to tell them apart."""
    if not latencies.count:
        return ()
    told = [percent for percent in _CURVE if (100 - percent) * latencies.count >= 100]
    return (
        *((percent, latencies.percentile_ms(percent)) for percent in told),
        (100, 1e3 * latencies.max_s),
    )
