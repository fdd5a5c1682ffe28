"""Reports as lines for people."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from vaeserve_loadtest.figures import Latency
from vaeserve_loadtest.find_max import Found
from vaeserve_loadtest.load import counted
from vaeserve_loadtest.report import Report

_SURE = 0.95
_HEADINGS = ("load", "requests/s", "rows/s", "p50/ms", "p90/ms", "p99/ms", "p99.9/ms", "failed")


def report_table(report: Report) -> str:
    """A run, and what to be wary of."""
    return "\n".join([run_table(report), *(f"warning     {text}" for text in report.warnings)])


def run_table(report: Report) -> str:
    """A run."""
    load = report.load
    lines = [
        f"{load.mixed}, {load.target}, {load.duration_s:g} s "
        f"after {load.warmup_s:g} s warm-up: {load.model} at {load.address}",
        f"requests    {report.succeeded} succeeded, {report.failed} failed, "
        f"{report.dropped} dropped",
        f"throughput  {report.requests_per_second:.1f} requests/s, "
        f"{report.rows_per_second:.1f} rows/s",
    ]
    if report.latency:
        lines.append(f"latency/ms  {_latency(report.latency)}")
    if len(report.parts) > 1:
        lines += [
            f"  {part.label:10}{_latency(part.latency) if part.latency else 'nothing succeeded'}"
            for part in report.parts
        ]
    if report.start_lag_p99_ms is not None:
        lines.append(f"start lag   p99 {report.start_lag_p99_ms:.3f} ms, part of the latency")
    processes = f"{load.workers} processes, " if load.workers > 1 else ""
    lines.append(f"generator   {processes}{report.cpu_share:.2f} of a core")
    lines += _server(report)
    lines += [f"error       {e.count} x {e.code} {e.reason}".rstrip() for e in report.errors]
    return "\n".join(lines)


def sweep_table(reports: Sequence[Report]) -> str:
    """Several runs, one a line, and what to be wary of."""
    return "\n".join(
        [runs_table(reports), *(f"warning     {text}" for text in warnings_of(reports))]
    )


def warnings_of(reports: Sequence[Report]) -> list[str]:
    """What to be wary of in several runs: each warning once, after the runs that it concerns."""
    concerned: dict[str, list[Report]] = {}
    for report in reports:
        for caution in report.cautions:
            concerned.setdefault(caution.summary, []).append(report)
    return [_warning(summary, runs) for summary, runs in concerned.items()]


def _warning(summary: str, runs: Sequence[Report]) -> str:
    if len(runs) == 1:
        (summary,) = (each.text for each in runs[0].cautions if each.summary == summary)
    often = Counter(report.load.target for report in runs)
    targets = [
        target if times == 1 else f"{target} ({counted(times, 'run')})"
        for target, times in often.items()
    ]
    return f"at {', '.join(targets)}: {summary}"


def runs_table(reports: Sequence[Report]) -> str:
    """Several runs, one a line."""
    rows = [_HEADINGS, *map(_row, reports)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    return "\n".join(lines)


def found_table(found: Found) -> str:
    """A search for the highest rate: its runs, and what follows."""
    return f"{sweep_table(found.trials)}\n\n{verdict(found)}"


def verdict(found: Found) -> str:
    """What a search found, and how sure that is."""
    caveat = f", {found.caveat}" if found.caveat else ""
    if found.rate is None:
        failed = f"even {found.failed_at:.1f} requests/s did not{caveat}"
        if found.gave_up:
            return (
                f"found no rate that holds {found.slo}: {failed}; a lower one may, "
                "but the search has used up its runs: try a --sweep"
            )
        return (
            f"no rate holds {found.slo}: {failed}; "
            "at lower rates, runs of this --duration have too few requests to tell"
        )
    lines = [f"highest rate that holds {found.slo}: {found.rate:.1f} requests/s{caveat}"]
    if found.failed_at is not None:
        lines.append(f"lowest rate that did not: {found.failed_at:.1f} requests/s")
    lines.append(
        f"confidence  {confidence(found)}: {found.slow} of {found.requests} requests "
        f"were slower or failed in {found.confirmations} runs at that rate; "
        f"{found.slo.allowed:.2%} may be"
    )
    if found.confidence is not None and found.confidence < _SURE:
        lines.append("warning     too few requests to be sure: raise --duration")
    return "\n".join(lines)


def confidence(found: Found) -> str:
    """How sure a search is, which is never wholly."""
    if found.confidence is None:
        return "none about the server" if found.caveat else "none"
    return "above 99.9%" if found.confidence > 0.999 else f"{found.confidence:.1%}"


def _row(report: Report) -> tuple[str, ...]:
    latency = report.latency
    figures = [latency.p50, latency.p90, latency.p99, latency.p99_9] if latency else []
    return (
        report.load.target,
        f"{report.requests_per_second:.1f}",
        f"{report.rows_per_second:.1f}",
        *([f"{figure:.3f}" for figure in figures] or ["-"] * 4),
        str(report.failed + report.dropped),
    )


def _latency(latency: Latency) -> str:
    figures = asdict(latency).items()
    return "  ".join(f"{name.replace('_', '.')} {value:.3f}" for name, value in figures)


def _server(report: Report) -> list[str]:
    """The server's own view, a line a graph."""
    if report.server is None:
        return []
    lines = []
    for graph in report.server.graphs:
        bound = graph.queue_p99_ms
        tail = "" if bound is None else f" (p99 below {bound:g})"
        rejected = "".join(f", {count} {reason}" for reason, count in graph.rejected.items())
        lines.append(
            f"server      {graph.graph}: {graph.batches} batches of {graph.rows_per_batch:.1f} "
            f"rows, queue {graph.queue_ms:.3f} ms{tail}, run {graph.run_ms:.3f} ms{rejected}"
        )
    if report.server.cpu_s is not None and report.succeeded:
        per_request = 1e6 * report.server.cpu_s / report.succeeded
        lines.append(f"server      {per_request:.0f} us of processor time a request")
    return lines
