"""A report as one self-contained HTML page: what there is to see at a glance, then the figures."""

import html
import io
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from vaeserve_loadtest.curves import distinct_runs
from vaeserve_loadtest.find_max import Found
from vaeserve_loadtest.report import Report
from vaeserve_loadtest.table import confidence, run_table, runs_table, verdict, warnings_of

_COLOURS = {"p50": "#2a7f9e", "p90": "#6a9f3c", "p99": "#d98c1f", "p99_9": "#c0392b"}
_MOST_CURVES = 8

_STYLE = """
:root { color-scheme: light dark;
  --ink: #1d2529; --paper: #fdfdfb; --faint: #67737a; --line: #dfe3e4 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ea; --paper: #14181a; --faint: #93a0a7; --line: #2c3438 }
  figure svg { filter: invert(0.89) hue-rotate(180deg) }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 64rem; margin: 2.5rem auto; padding: 0 1.25rem }
h1 { font-size: 1.6rem; margin: 0 0 .25rem } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
p.what { color: var(--faint); margin: 0 0 1.5rem }
dl { display: flex; flex-wrap: wrap; gap: .75rem 2.5rem; margin: 0 0 1.5rem }
dt { color: var(--faint); font-size: .85rem } dd { margin: 0; font-size: 1.35rem; font-weight: 600 }
dd small { display: block; max-width: 26rem; color: #c0392b; font-size: .9rem }
ul.warnings { border-left: 4px solid #c0392b; padding: .5rem 1rem .5rem 2rem; margin: 0 0 1.5rem }
figure { margin: 1rem 0 } figure svg { width: 100%; height: auto }
figcaption { color: var(--faint); font-size: .9rem }
pre { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; padding: .75rem 1rem;
  font: 13px/1.45 ui-monospace, monospace }
"""


class _Merit(NamedTuple):
    """A figure of the headline: its name, its value, and what stands beside it."""

    name: str
    value: str
    caveat: str = ""


def page(reports: Sequence[Report], found: Found | None, taken: datetime) -> str:
    """Draw the page.

    Args:
        reports: one run, or the runs of a sweep or search.
        found: what a search found in them.
        taken: when it was measured.

    Returns:
        HTML that refers to nothing outside itself.
    """
    last = reports[-1]
    headline, text = _headline(reports, found)
    figures = [_percentile_plot(reports, found)]
    if len(reports) > 1:
        figures.insert(0, _load_plot(reports, found))
    if len(reports) == 1:
        figures.append(_timeline_plot(last))
    warnings = warnings_of(reports)
    title = f"{last.load.model}: {last.load.mixed}"
    listed = "".join(f"<li>{html.escape(warning)}</li>" for warning in warnings)
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<style>{_STYLE}</style>",
            f"<h1>{html.escape(title)}</h1>",
            f'<p class="what">{html.escape(last.load.address)}, '
            f"{taken.strftime('%d %B %Y, %H:%M %Z').strip()}</p>",
            f"<dl>{''.join(map(_figure_of_merit, headline))}</dl>",
            f'<ul class="warnings">{listed}</ul>' if warnings else "",
            *figures,
            "<h2>In numbers</h2>",
            f"<pre>{html.escape(text)}</pre>",
            "</html>",
        ]
    )


def _headline(reports: Sequence[Report], found: Found | None) -> tuple[list[_Merit], str]:
    last = reports[-1]
    if found is not None:
        rate = "not found" if found.gave_up else "none"
        if found.rate is not None:
            rate = f"{found.rate:.0f} requests/s"
        return [
            _Merit(f"highest rate within {found.slo}", rate, found.caveat or ""),
            _Merit("confidence", confidence(found)),
        ], f"{runs_table(found.trials)}\n\n{verdict(found)}"
    if len(reports) > 1:
        best = max(reports, key=lambda report: report.requests_per_second)
        return [
            _Merit("highest throughput", f"{best.requests_per_second:.0f} requests/s"),
            _Merit("at", best.load.target),
        ], "\n\n".join([runs_table(reports), *map(run_table, reports)])
    latency = last.latency
    return [
        _Merit("load", last.load.target),
        _Merit("throughput", f"{last.requests_per_second:.0f} requests/s"),
        _Merit("median", f"{latency.p50:.2f} ms" if latency else "-"),
        _Merit("p99", f"{latency.p99:.2f} ms" if latency else "-"),
        _Merit("failed", str(last.failed + last.dropped)),
    ], run_table(last)


def _figure_of_merit(merit: _Merit) -> str:
    name, value, caveat = map(html.escape, merit)
    beside = f"<small>{caveat}</small>" if caveat else ""
    return f"<div><dt>{name}</dt><dd>{value}{beside}</dd></div>"


def _load_plot(reports: Sequence[Report], found: Found | None) -> str:
    """Latency percentiles over what was asked for."""

    def draw(axes: Axes) -> None:
        measured = sorted(
            ((report.load.asked, report.latency) for report in reports if report.latency),
            key=lambda pair: pair[0],
        )
        asked = [pair[0] for pair in measured]
        for name, colour in _COLOURS.items():
            values = [getattr(latency, name) for _, latency in measured]
            label = name.replace("_", ".")
            # A search tries a rate more than once: points, since there is no one value.
            style = "o-" if found is None else "o"
            axes.plot(asked, values, style, color=colour, label=label, markersize=4)
        if found is not None:
            limit = 1e3 * found.slo.limit_s
            axes.axhline(limit, color="#555", linestyle=":", label=str(found.slo))
        _milliseconds(axes)
        closed = reports[0].load.rate is None
        axes.set_xlabel("callers" if closed else "requests a second, offered")

    caption = "Where the curves bend upwards, requests begin to wait for one another."
    return _plot("Latency under load", draw, caption)


def _percentile_plot(reports: Sequence[Report], found: Found | None) -> str:
    """The whole distribution, its tail stretched."""
    shown = distinct_runs(reports, found, _MOST_CURVES)
    notes = {} if found is None else {found.failed_at: ", failed", found.rate: ", found"}

    def draw(axes: Axes) -> None:
        for report in shown:
            points = [(100 / (100 - p), ms) for p, ms in report.percentiles if p < 100]
            points.append((max(report.succeeded, 2), report.percentiles[-1][1]))
            note = notes.get(report.load.rate, "")
            axes.plot(*zip(*points, strict=True), label=report.load.target + note)
        axes.set_xscale("log")
        ticks = {1: "0", 2: "50", 10: "90", 100: "99", 1000: "99.9", 10_000: "99.99"}
        axes.set_xticks(list(ticks), labels=list(ticks.values()))
        axes.xaxis.set_minor_locator(LogLocator(subs=()))
        _milliseconds(axes)
        axes.set_xlabel("percentage of requests that took no longer")

    caption = "Each step to the right is ten times rarer; the last point is the slowest request."
    if len(shown) < len(reports):
        caption += f" {len(shown)} of {len(reports)} runs shown, of a load at most the last."
    return _plot("Distribution", draw, caption)


def _timeline_plot(report: Report) -> str:
    def draw(axes: Axes) -> None:
        at = [second.at_s for second in report.timeline]
        for name, colour in (("p50", _COLOURS["p50"]), ("p99", _COLOURS["p99"])):
            values = [getattr(second, f"{name}_ms") for second in report.timeline]
            known = [pair for pair in zip(at, values, strict=True) if pair[1] is not None]
            if known:
                axes.plot(*zip(*known, strict=True), "o-", color=colour, label=name, markersize=3)
        axes.set_xlabel("seconds")
        axes.set_ylabel("latency, ms")
        rates = axes.twinx()
        rates.fill_between(at, [second.succeeded for second in report.timeline], alpha=0.15)
        failed = [second.failed for second in report.timeline]
        if any(failed):
            rates.plot(at, failed, color="#c0392b", linestyle="--", label="failed a second")
        rates.set_ylim(bottom=0)
        rates.set_ylabel("requests answered a second")

    caption = "By when requests were to start. The area is the rate of those that were answered."
    return _plot("Timeline", draw, caption)


def _milliseconds(axes: Axes) -> None:
    """A logarithmic axis that is labelled with plain numbers."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("latency, ms")


def _plot(title: str, draw: Callable[[Axes], None], caption: str) -> str:
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    axes = figure.add_subplot()
    draw(axes)
    axes.grid(color="#ccc", linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    svg = io.StringIO()
    figure.savefig(svg, format="svg", transparent=True)
    drawing = svg.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    return (
        f"<h2>{html.escape(title)}</h2><figure>{drawing}"
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )
