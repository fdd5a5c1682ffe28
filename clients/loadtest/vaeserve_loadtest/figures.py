"""What a report is made of: latencies, errors, and stretches of time."""

from dataclasses import dataclass

from vaeserve_loadtest.latencies import Latencies


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
