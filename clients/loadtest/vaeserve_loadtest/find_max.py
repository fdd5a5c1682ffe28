"""The highest rate that holds a service level, and how sure that is."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

from vaeserve_loadtest.report import Report

_FEWEST = 3  # requests that may be slow in a run, by the level: fewer say nothing
_CLOSE = 0.05  # the search ends when the bounds are this near, relatively
_MOST_TRIALS = 12
_CONFIRMATIONS = 3
_STEP_DOWN = 0.93  # to the next rate, when a confirmation fails

MOST_RUNS = 30
"""More than these `find_max` does not measure."""


@dataclass(frozen=True, slots=True)
class Slo:
    """A service level: a percentage of all requests take no longer than a time.

    Attributes:
        percent: below 100.
        limit_s: that time, seconds.
    """

    percent: float
    limit_s: float

    @classmethod
    def parse(cls, text: str) -> "Slo":
        """Read "p99=20ms" or "p99.9=0.5s".

        Raises:
            ValueError: another form.
        """
        form = re.fullmatch(r"p(\d+(?:\.\d+)?)=(\d+(?:\.\d+)?)(us|ms|s)", text.strip())
        if not form:
            raise ValueError(f"{text!r} is no service level such as p99=20ms")
        unit = {"us": 1e-6, "ms": 1e-3, "s": 1.0}[form[3]]
        slo = cls(float(form[1]), float(form[2]) * unit)
        if not (0 < slo.percent < 100 and slo.limit_s > 0):
            raise ValueError(f"{text!r}: the percentage lies between 0 and 100, the time above 0")
        return slo

    @property
    def allowed(self) -> float:
        """Share of the requests that may be slower."""
        return float(self._allowed)

    def slow(self, report: Report) -> int:
        """Requests that were slower, failed, or could not be sent."""
        return report.latencies.count_above(self.limit_s) + report.failed + report.dropped

    def holds(self, report: Report) -> bool:
        """Whether a run kept it."""
        return report.requests > 0 and self.slow(report) <= self._allowed * report.requests

    @property
    def _allowed(self) -> Decimal:
        """In decimals, as it was written: as floats, 1 - 0.9 allows fewer than 100 of 1000."""
        return 1 - Decimal(str(self.percent)) / 100

    def __str__(self) -> str:
        """As it is written."""
        return f"p{self.percent:g}={1e3 * self.limit_s:g}ms"


@dataclass
class Found:
    """What a search found.

    Attributes:
        slo: the service level.
        rate: highest rate that held it in every confirming run; None if none did.
        failed_at: lowest rate above it that did not; None if none was tried.
        slow: requests of the confirming runs that were slower than the limit, or failed.
        requests: requests of those runs.
        confirmations: how many runs those were.
        gave_up: whether no rate was found because the search had used up its runs: a lower one may
            hold. Otherwise runs at lower rates would have had too few requests to tell.
        trials: every run, in order.
    """

    slo: Slo
    rate: float | None = None
    failed_at: float | None = None
    slow: int = 0
    requests: int = 0
    confirmations: int = 0
    gave_up: bool = False
    trials: list[Report] = field(default_factory=list)

    @property
    def confidence(self) -> float | None:
        """One minus the chance of seeing so few slow requests if the level were just broken.

        The exact binomial test; it takes requests for independent, which those of one burst are not
        quite. None where no rate was found, and where there is a caveat: what the load generator
        did says nothing of the server.
        """
        if self.rate is None or self.caveat:
            return None
        return 1 - binomial_cdf(self.slow, self.requests, self.slo.allowed)

    @property
    def caveat(self) -> str | None:
        """Why the rates are the load generator's and not the server's, and what to try.

        None where no run at either of the two rates was limited by the load generator.
        """
        decisive = [each for each in self.trials if each.load.rate in {self.rate, self.failed_at}]
        if not any(each.generator_limited for each in decisive):
            return None
        more = 2 * decisive[0].load.workers
        return (
            "the load generator's limit, the server can do more: "
            f"try --workers {more}, or send from another machine"
        )


def find_max(
    slo: Slo, capacity: float, duration_s: float, run_at: Callable[[float], Report]
) -> Found:
    """Search for the highest rate: halve the bounds, then confirm.

    Args:
        slo: the service level.
        capacity: about the most that the server answers, requests a second: where to begin.
        duration_s: of a run; rates at which it sees too few requests are not tried.
        run_at: measures an open loop at a rate, each time with other arrivals: the confidence takes
            the requests of several runs for independent.
    """
    found = Found(slo)
    least = _rounded(_FEWEST / slo.allowed / duration_s)

    def holds(rate: float) -> bool:
        found.trials.append(run_at(rate))
        return slo.holds(found.trials[-1])

    low, high, rate = 0.0, math.inf, max(_rounded(0.7 * capacity), least)
    for _ in range(_MOST_TRIALS):
        if holds(rate):
            low = rate
        else:
            high = rate
        if high <= max(low, least) * (1 + _CLOSE):
            break
        rate = _rounded(1.3 * low if high == math.inf else max((low + high) / 2, least))
    found.failed_at = None if high == math.inf else high
    while low and len(found.trials) + _CONFIRMATIONS <= MOST_RUNS:
        if _confirmed(found, low, holds):
            break
        found.failed_at = low
        if low <= least:
            break
        low = max(_rounded(low * _STEP_DOWN), least)
    if found.rate is None and found.failed_at is not None:
        found.gave_up = found.failed_at > least * (1 + _CLOSE)
    return found


def _rounded(rate: float) -> float:
    """To three digits: a measurement has no more."""
    return float(f"{rate:.3g}")


def _confirmed(found: Found, rate: float, holds: Callable[[float], bool]) -> bool:
    """Whether several runs in a row hold the level; notes what they saw."""
    before = len(found.trials)
    if not all(holds(rate) for _ in range(_CONFIRMATIONS)):
        return False
    runs = found.trials[before:]
    found.rate, found.confirmations = rate, len(runs)
    found.slow = sum(map(found.slo.slow, runs))
    found.requests = sum(report.requests for report in runs)
    return True


def binomial_cdf(successes: int, trials: int, chance: float) -> float:
    """P(X <= successes) for X ~ Binomial(trials, chance), 0 < chance < 1."""
    if successes >= trials:
        return 1.0
    log_chance, log_other = math.log(chance), math.log1p(-chance)
    constant = math.lgamma(trials + 1)
    terms = (
        constant
        - math.lgamma(number + 1)
        - math.lgamma(trials - number + 1)
        + number * log_chance
        + (trials - number) * log_other
        for number in range(successes + 1)
    )
    return min(1.0, math.fsum(map(math.exp, terms)))
