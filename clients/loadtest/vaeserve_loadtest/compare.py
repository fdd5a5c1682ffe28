"""Two reports side by side, for use in CI."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vaeserve_loadtest.load import counted

_PERCENTILES = ("p50", "p90", "p99", "p99_9")


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure now over the same figure before.

    Attributes:
        load: at which it was measured, in words.
        name: of the figure.
        before: then.
        now: now.
        grows_worse: whether more of it is worse.
    """

    load: str
    name: str
    before: float
    now: float
    grows_worse: bool

    @property
    def ratio(self) -> float:
        """Now / before."""
        return self.now / self.before if self.before else float("inf")

    def worse_than(self, threshold: float) -> bool:
        """Whether it grew worse by more than a factor."""
        return self.ratio > threshold if self.grows_worse else self.ratio * threshold < 1


def compare(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Ratio]:
    """Compare the runs of two JSON reports that have the same load.

    Raises:
        ValueError: not a report, or no two runs of the same load.
    """
    old = dict(_runs(before))
    ratios = [
        ratio for key, run in _runs(now) if key in old for ratio in _ratios(key, old[key], run)
    ]
    if not ratios:
        raise ValueError("no run of the older report has the load of one of these")
    return ratios


def comparison_table(ratios: list[Ratio], threshold: float) -> str:
    """A line a figure; those beyond the threshold are marked."""
    lines = [f"{'figure':22}{'before':>12}{'now':>12}{'ratio':>9}"]
    load = None
    for each in ratios:
        if each.load != load:
            load = each.load
            lines.append(load)
        mark = f"  worse than {threshold:g}x" if each.worse_than(threshold) else ""
        lines.append(f"  {each.name:20}{each.before:12.3f}{each.now:12.3f}{each.ratio:9.3f}{mark}")
    return "\n".join(lines)


def _runs(report: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The runs of a report, by what they sent; where it was sent does not matter."""
    try:
        for run in report["runs"]:
            load = run["load"]
            mix = ",".join(f"{p['rpc']}@{p['rows']}:{p['share']:g}" for p in load["mix"])
            target = (
                counted(load["concurrency"], "caller")
                if load["rate"] is None
                else f"{load['rate']:g} requests/s"
            )
            yield f"{mix}, {target}", run
    except (KeyError, TypeError) as error:
        raise ValueError(f"this is no report of vaeserve loadtest: {error}") from error


def _ratios(key: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Ratio]:
    name = "requests_per_second"
    yield Ratio(key, "requests/s", before[name], now[name], grows_worse=False)
    if before["latency_ms"] and now["latency_ms"]:
        for percentile in _PERCENTILES:
            old, new = before["latency_ms"][percentile], now["latency_ms"][percentile]
            yield Ratio(key, f"{percentile.replace('_', '.')}/ms", old, new, grows_worse=True)
