"""Two reports side by side, for use in CI."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaeserve_loadtest.find_max import Slo
from vaeserve_loadtest.load import Load, counted

_PERCENTILES = ("p50", "p90", "p99", "p99_9")
_MORE_LOST = 1.0  # percentage points


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure now over the same figure before.

    Attributes:
        name: of the figure.
        before: then.
        now: now.
        grows_worse: whether more of it is worse.
    """

    name: str
    before: float
    now: float
    grows_worse: bool

    @property
    def change(self) -> str:
        """Now / before."""
        return f"{self._ratio:.3f}"

    def fault(self, threshold: float) -> str:
        """Says that it grew worse by more than a factor; empty where it did not."""
        worse = self._ratio > threshold if self.grows_worse else self._ratio * threshold < 1
        return f"worse than {threshold:g}x" if worse else ""

    @property
    def _ratio(self) -> float:
        return self.now / self.before if self.before else float("inf")


@dataclass(frozen=True, slots=True)
class Lost:
    """Requests that failed or were not sent, of which there are mostly none to have a ratio to.

    Attributes:
        name: of the figure.
        before: then, percent of all requests.
        now: now.
    """

    before: float
    now: float
    name: str = "failed, dropped/%"

    @property
    def change(self) -> str:
        """Now - before."""
        return f"{self.now - self.before:+.3f}"

    def fault(self, _: float) -> str:
        """Says that they are more by over a percentage point; empty where they are not."""
        more = self.now - self.before > _MORE_LOST
        return f"worse by over {_MORE_LOST:g} point" if more else ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One load, or one search, then and now.

    Attributes:
        load: in words.
        figures: side by side.
        limited: when the load generator was the limit: "before", "now", "before and now", or never.
    """

    load: str
    figures: tuple[Ratio | Lost, ...]
    limited: str

    def worse_than(self, threshold: float) -> bool:
        """Whether a figure grew worse by more than a factor, or requests were lost."""
        return any(figure.fault(threshold) for figure in self.figures)


@dataclass(frozen=True, slots=True)
class _Side:
    """What is compared of one load in one report."""

    requests_per_second: float
    limited: bool
    lost: float | None = None  # None for the rate that a search found
    percentiles: Mapping[str, float] | None = None


Sides = Mapping[str, _Side]
"""What is compared of a report, by what was sent; where it was sent does not matter."""


def read_older(path: Path, loads: Sequence[Load], slo: Slo | None) -> Sides:
    """Read an older report that is to be compared with what is about to be measured.

    Args:
        path: a JSON report.
        loads: that are to be measured; the probe alone of a search.
        slo: of a search, whose rate is compared and not its runs.

    Raises:
        ValueError: not a report of this version, or it has nothing of these loads.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        older = dict([*_runs(report), *_searched(report)])
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as a report: {error}") from error
    except KeyError as error:
        raise ValueError(f"{path}: lacks {error}; measure it again with this version") from error
    except (AttributeError, IndexError, TypeError) as error:
        raise ValueError(f"{path}: is no report of vaeserve loadtest") from error
    if slo is not None:
        searched = _search(loads[0].to_json(), str(slo))
        if searched not in older:
            raise ValueError(f"{path}: the older report found no {searched}")
    elif not {_sent(load.to_json()) for load in loads} & set(older):
        raise ValueError(f"{path}: no run of the older report has the load of one of these")
    return older


def compare(older: Sides, report: Mapping[str, Any]) -> list[Comparison]:
    """Compare a JSON report: the rate that a search found, or else the runs.

    Returns:
        What both have; nothing of a search that found no rate.
    """
    now = _searched(report) if "find_max" in report else _runs(report)
    return [_comparison(key, older[key], side) for key, side in now if key in older]


def comparison_table(comparisons: Sequence[Comparison], threshold: float) -> str:
    """A line a figure; those beyond the threshold are marked, as is what the generator limited."""
    lines = [f"{'figure':22}{'before':>12}{'now':>12}{'change':>9}"]
    for each in comparisons:
        limited = f": the load generator's limit {each.limited}, too little of the server"
        lines.append(each.load + (limited if each.limited else ""))
        for figure in each.figures:
            values = f"{figure.before:12.3f}{figure.now:12.3f}{figure.change:>9}"
            lines.append(f"  {figure.name:20}{values}  {figure.fault(threshold)}".rstrip())
    return "\n".join(lines)


def _comparison(key: str, before: _Side, now: _Side) -> Comparison:
    figures: list[Ratio | Lost] = [
        Ratio("requests/s", before.requests_per_second, now.requests_per_second, grows_worse=False)
    ]
    if before.lost is not None and now.lost is not None:
        figures.append(Lost(before.lost, now.lost))
    if before.percentiles and now.percentiles:
        figures += [
            Ratio(f"{name.replace('_', '.')}/ms", before.percentiles[name], value, grows_worse=True)
            for name, value in now.percentiles.items()
        ]
    limited = {"before": before.limited, "now": now.limited}
    return Comparison(key, tuple(figures), " and ".join(when for when in limited if limited[when]))


def _runs(report: Mapping[str, Any]) -> Iterator[tuple[str, _Side]]:
    for run in report["runs"]:
        latency = run["latency_ms"]
        side = _Side(
            requests_per_second=float(run["requests_per_second"]),
            limited=run["generator_limited"],
            lost=100 * (run["failed"] + run["dropped"]) / max(run["requests"], 1),
            percentiles=latency and {name: float(latency[name]) for name in _PERCENTILES},
        )
        yield _sent(run["load"]), side


def _searched(report: Mapping[str, Any]) -> Iterator[tuple[str, _Side]]:
    search = report.get("find_max")
    if search and search["rate"] is not None:
        side = _Side(float(search["rate"]), limited=search["caveat"] is not None)
        yield _search(report["runs"][0]["load"], search["slo"]), side


def _search(load: Mapping[str, Any], slo: str) -> str:
    return f"highest rate that holds {slo}, {_mix(load)}, {load['arrivals']} arrivals"


def _sent(load: Mapping[str, Any]) -> str:
    begin = "" if load["ramp_from"] is None else f"{load['ramp_from']:g} to "
    if load["rate"] is None:
        return f"{_mix(load)}, {begin}{counted(load['concurrency'], 'caller')}"
    return f"{_mix(load)}, {begin}{load['rate']:g} requests/s, {load['arrivals']} arrivals"


def _mix(load: Mapping[str, Any]) -> str:
    return ",".join(f"{p['rpc']}@{p['rows']}:{p['share']:g}" for p in load["mix"])
