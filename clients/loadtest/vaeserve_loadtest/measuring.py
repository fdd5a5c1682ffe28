"""Measures loads in turn, or searches, and keeps what was finished whatever comes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from vaeserve import VaeserveError
from vaeserve_loadtest.find_max import Found, Slo, find_max
from vaeserve_loadtest.load import Load
from vaeserve_loadtest.report import Report
from vaeserve_loadtest.schedule import seed_of_run
from vaeserve_loadtest.workers import WorkerDied

Measure = Callable[[Load], Report]
"""Sends a load and measures it."""


class NothingAnsweredError(RuntimeError):
    """There is nothing to search below: the probe had no answer."""


@dataclass
class Measured:
    """What was measured.

    Attributes:
        reports: the runs that were finished; without the probe of a search.
        found: what a search found in them; None where there was none, or it was stopped.
        stopped: what ended it before its time.
    """

    reports: list[Report] = field(default_factory=list)
    found: Found | None = None
    stopped: BaseException | None = None


def measured(loads: Sequence[Load], slo: Slo | None, measure: Measure) -> Measured:
    """Measure loads in turn, or search from a probe.

    Raises:
        NothingAnsweredError: a search's probe had no answer.
        VaeserveError, OSError, ValueError, WorkerDied, KeyboardInterrupt: as `runner.run`, where no
            run was finished before; else these are in the result.
    """
    whole = Measured()

    def kept(load: Load) -> Report:
        whole.reports.append(measure(load))
        return whole.reports[-1]

    try:
        if slo is None:
            for load in loads:
                kept(load)
        else:
            whole.found = _searched(loads[0], slo, measure(loads[0]), kept)
    except (VaeserveError, OSError, ValueError, WorkerDied, KeyboardInterrupt) as exc:
        if not whole.reports:
            raise
        whole.stopped = exc
    return whole


def _searched(probe: Load, slo: Slo, probed: Report, measure: Measure) -> Found:
    """Search below and around what the server answers at most."""
    if not probed.requests_per_second:
        raise NothingAnsweredError("the server answered nothing; try --concurrency 1 first")
    number = 0

    def run_at(rate: float) -> Report:
        nonlocal number
        number += 1
        seed = seed_of_run(probe.seed, number)
        return measure(replace(probe, concurrency=None, rate=rate, seed=seed))

    return find_max(slo, probed.requests_per_second, probe.duration_s, run_at)
