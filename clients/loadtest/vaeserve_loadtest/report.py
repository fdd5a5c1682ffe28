"""What a run measured: counts, latencies, and what to be wary of."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from vaeserve_loadtest.cautions import Caution
from vaeserve_loadtest.figures import ErrorCount, Latency, PartReport, Second
from vaeserve_loadtest.latencies import Latencies
from vaeserve_loadtest.load import Load, counted
from vaeserve_loadtest.server_view import ServerView
from vaeserve_loadtest.tally import Interval, PartTally, Tally

_CPU_NEAR_LIMIT = 0.9  # of a core, which is all that one event loop can use
_LAG_SHARE = 0.5  # of the latency's own p99
_RATE_KEPT = 0.95  # share of the offered requests that a keeping server answers in the window
_CURVE = (0, 10, 25, 50, 75, 90, 95, 98, 99, 99.5, 99.9, 99.95, 99.99)


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
        server: the server's own view; None where it was not asked or could not tell.
        server_failure: why it could not tell; None where it was not asked or told.
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
    server_failure: str | None
    latencies: Latencies

    @classmethod
    def of(cls, load: Load, tally: Tally, server: ServerView | str | None = None) -> "Report":
        """Sum up a tally.

        Args:
            load: what was sent.
            tally: what was counted.
            server: its own view, or why there is none though it was asked.
        """
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
            server=server if isinstance(server, ServerView) else None,
            server_failure=server if isinstance(server, str) else None,
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
    def cautions(self) -> tuple[Caution, ...]:
        """What stands between the figures and a conclusion about the server."""
        found = []
        if not self.requests:
            nothing = "no request was due in the measured time: raise --duration or --rate"
            found.append(Caution(nothing, nothing))
        if self.failed:
            failed = "requests failed; latencies are of the others"
            found.append(Caution(f"{self.failed} of {self.requests} {failed}", failed))
        if self.dropped:
            unsent = "not sent: too many under way, or due too fast"
            found.append(
                Caution(f"{counted(self.dropped, 'request')} {unsent}", f"requests {unsent}")
            )
        if not self.kept_rate:
            found.append(
                Caution(
                    f"the rate was not kept: {self.requests_per_second:.1f} requests/s answered "
                    f"of {self.requests / self.load.duration_s:.1f}",
                    "the rate was not kept",
                )
            )
        lag = self.start_lag_p99_ms
        if lag is not None and self.latency and lag > _LAG_SHARE * self.latency.p99:
            own = "the load generator is the limit, and most of the latency is its own"
            found.append(
                Caution(
                    f"requests started up to {lag:.1f} ms late (p99): {own}",
                    f"requests started late: {own}",
                    of_generator=True,
                )
            )
        if self.cpu_share >= _CPU_NEAR_LIMIT:
            busy = "its core: the load generator may be the limit, not the server; raise --workers"
            found.append(
                Caution(
                    f"a sending process used {self.cpu_share:.2f} of {busy}",
                    f"a sending process used nearly all of {busy}",
                    of_generator=True,
                )
            )
        if self.server_failure is not None:
            unseen = "the server's own view is missing"
            found.append(Caution(f"{unseen}: {self.server_failure}", unseen))
        return tuple(found)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those cautions in words."""
        return tuple(caution.text for caution in self.cautions)

    @property
    def generator_limited(self) -> bool:
        """Whether a caution says that the load generator, not the server, may be the limit."""
        return any(caution.of_generator for caution in self.cautions)

    def to_json(self) -> dict[str, Any]:
        """Plain values, with units in their keys."""
        return {
            "load": self.load.to_json(),
            "requests": self.requests,
            "succeeded": self.succeeded,
            "failed": self.failed,
            "dropped": self.dropped,
            "requests_per_second": self.requests_per_second,
            "rows_per_second": self.rows_per_second,
            "target_requests_per_second": self.load.rate,
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
            "generator_limited": self.generator_limited,
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
