"""What a run measured: counts, latencies in an HDR histogram, and what to be wary of."""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

from hdrh.histogram import HdrHistogram

from vaeserve import VaeserveError
from vaeserve_loadtest.load import Load

_MAX_US = 3_600_000_000
_DIGITS = 3  # significant digits a latency keeps
_CPU_NEAR_LIMIT = 0.9  # of a core, which is all that one event loop can use
_LAG_SHARE = 0.5  # of the latency's own p99
_RATE_KEPT = 0.95  # share of the offered requests that a keeping server answers in the window


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
        cpu_share: cores' worth of time this program used; one event loop has one core.
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
                f"of {self.load.rate:.1f}"
            )
        lag = self.start_lag_p99_ms
        if lag is not None and self.latency and lag > _LAG_SHARE * self.latency.p99:
            found.append(
                f"requests started up to {lag:.1f} ms late (p99): the load generator is the limit, "
                "and most of the latency is its own"
            )
        if self.cpu_share >= _CPU_NEAR_LIMIT:
            found.append(
                f"the load generator used {self.cpu_share:.2f} of a core: "
                "it may be the limit, not the server"
            )
        return tuple(found)

    def to_json(self) -> str:
        """One JSON object, with units in its keys."""
        fields = asdict(self)
        latency = fields.pop("latency")
        return json.dumps(
            {
                **fields,
                "requests": self.requests,
                "latency_ms": latency,
                "target_requests_per_second": self.load.rate,
                "kept_rate": self.kept_rate,
                "warnings": self.warnings,
            },
            indent=2,
        )

    def to_table(self) -> str:
        """A few lines for people."""
        load = self.load
        loop = f"{load.concurrency} callers" if load.rate is None else f"{load.rate:g} requests/s"
        lines = [
            f"{load.rpc}, {load.rows} rows a request, {loop}, {load.duration_s:g} s "
            f"after {load.warmup_s:g} s warm-up: {load.model} at {load.address}",
            f"requests    {self.succeeded} succeeded, {self.failed} failed, {self.dropped} dropped",
            f"throughput  {self.requests_per_second:.1f} requests/s, "
            f"{self.rows_per_second:.1f} rows/s",
        ]
        if self.latency:
            figures = asdict(self.latency).items()
            named = "  ".join(f"{name.replace('_', '.')} {value:.3f}" for name, value in figures)
            lines.append(f"latency/ms  {named}")
        if self.start_lag_p99_ms is not None:
            lines.append(f"start lag   p99 {self.start_lag_p99_ms:.3f} ms, part of the latency")
        lines.append(f"generator   {self.cpu_share:.2f} of a core")
        lines += [f"error       {e.count} x {e.code} {e.reason}".rstrip() for e in self.errors]
        lines += [f"warning     {warning}" for warning in self.warnings]
        return "\n".join(lines)


class Recorder:
    """Takes each request's moments and outcome; knows which of them are measured.

    Args:
        load: what is sent.
        began: moment the run began; the warm-up comes first. All moments are of one clock, seconds.
    """

    def __init__(self, load: Load, began: float) -> None:
        self._load = load
        self.start = began + load.warmup_s
        self.end = self.start + load.duration_s
        self._latencies = HdrHistogram(1, _MAX_US, _DIGITS)
        self._lags = HdrHistogram(1, _MAX_US, _DIGITS)
        self._errors: Counter[tuple[str, str]] = Counter()
        self._sum_s = self._max_s = 0.0
        self._succeeded = self._answered_in_time = self._dropped = 0

    def succeeded(self, intended: float, sent: float, done: float) -> None:
        """Count an answer.

        Args:
            intended: when the request was to start; in a closed loop, when it did.
            sent: when it was started.
            done: when its answer was there.
        """
        self._answered_in_time += self._measured(done)
        if self._measured(intended):
            self._succeeded += 1
            self._sum_s += done - intended
            self._max_s = max(self._max_s, done - intended)
            self._latencies.record_value(_microseconds(done - intended))
            self._lags.record_value(_microseconds(sent - intended))

    def failed(self, intended: float, error: VaeserveError) -> None:
        """Count a failure by its code and reason."""
        if self._measured(intended):
            self._errors[error.code, error.reason] += 1

    def dropped(self, intended: float) -> None:
        """Count a request that was not sent."""
        self._dropped += self._measured(intended)

    def report(self, cpu_share: float) -> Report:
        """Sum up."""
        rate = self._answered_in_time / self._load.duration_s
        return Report(
            load=self._load,
            succeeded=self._succeeded,
            failed=self._errors.total(),
            dropped=self._dropped,
            requests_per_second=rate,
            rows_per_second=rate * self._load.rows,
            latency=self._latency() if self._succeeded else None,
            start_lag_p99_ms=(
                _percentile_ms(self._lags, 99)
                if self._load.rate is not None and self._succeeded
                else None
            ),
            errors=tuple(ErrorCount(*kind, n) for kind, n in self._errors.most_common()),
            cpu_share=cpu_share,
        )

    def _measured(self, moment: float) -> bool:
        return self.start <= moment < self.end

    def _latency(self) -> Latency:
        slowest = self._max_s * 1e3

        def percentile(percent: float) -> float:
            # The histogram's last digit is coarse; no percentile lies above the slowest.
            return min(slowest, _percentile_ms(self._latencies, percent))

        return Latency(
            mean=self._sum_s * 1e3 / self._succeeded,
            p50=percentile(50),
            p90=percentile(90),
            p99=percentile(99),
            p99_9=percentile(99.9),
            max=slowest,
        )


def _microseconds(seconds: float) -> int:
    return min(max(round(seconds * 1e6), 1), _MAX_US)


def _percentile_ms(histogram: Any, percent: float) -> float:
    """Nearest rank: the smallest latency that `percent` of all do not exceed, milliseconds."""
    count = histogram.get_total_count()
    # The library rounds the rank to the nearest, which hides the tail of a short run: ask for the
    # percentage that is exactly the next rank. (The small number takes back what floats add.)
    rank = ceil(percent * count / 100 - 1e-9)
    return float(histogram.get_value_at_percentile(100 * rank / count)) / 1e3
