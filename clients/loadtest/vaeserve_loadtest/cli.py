"""`vaeserve loadtest`: arguments in, a table, JSON, CSV or a page out."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import click

# The command line's own, not the SDK's: how every command is told of TLS, tokens and a model.
from vaeserve._dial import client_at, credential_options, credentials, model_option, only_model
from vaeserve_loadtest import options
from vaeserve_loadtest.compare import compare, comparison_table, read_older
from vaeserve_loadtest.files import json_text, to_csv, to_json, write_all
from vaeserve_loadtest.find_max import MOST_RUNS, Slo
from vaeserve_loadtest.live import shown
from vaeserve_loadtest.load import ARRIVALS, RPCS, Load, Part, counted
from vaeserve_loadtest.measuring import Measured, NothingAnsweredError, measured
from vaeserve_loadtest.options import Steps, parsed
from vaeserve_loadtest.report import Report
from vaeserve_loadtest.runner import run
from vaeserve_loadtest.table import found_table, report_table, sweep_table
from vaeserve_loadtest.workers import WorkerDied

_WORSE = 3  # exit status of --compare
_PROBE_CALLERS = 32  # enough to keep a server busy, few enough to be answered soon

_FILE = click.Path(dir_okay=False, path_type=Path)
_TIME = parsed(options.seconds)


@click.command(context_settings={"show_default": True})
@click.argument("address")
@credential_options
@model_option
@click.option("--rpc", type=click.Choice(RPCS), default="encode")
@click.option("--rows", default=1, help="Rows of each request.")
@click.option(
    "--mix",
    metavar="RPC[@ROWS]:SHARE,...",
    callback=parsed(options.mix),
    help="Several kinds of requests instead: encode:0.6,encode@16:0.1,sample:0.3",
)
@click.option("--data", type=_FILE, help=".npy or .npz of rows to send; random ones without.")
@click.option("--concurrency", type=int, help="Closed loop: callers that wait for their answers.")
@click.option("--rate", type=float, help="Open loop: requests a second, whatever the server does.")
@click.option("--ramp", callback=parsed(options.ramp), metavar="rate=A:B", help="Grow in one run.")
@click.option(
    "--sweep", callback=parsed(options.sweep), metavar="rate=A,B,...", help="A run at each in turn."
)
@click.option("--find-max", "search", is_flag=True, help="Find the highest rate that holds --slo.")
@click.option("--slo", callback=parsed(Slo.parse), metavar="p99=20ms", help="For --find-max.")
@click.option("--arrivals", type=click.Choice(ARRIVALS), default="poisson", help="Open loop's.")
@click.option("--duration", default="10s", callback=_TIME, help="Measured, in each run.")
@click.option("--warmup", default="2s", callback=_TIME, help="Before that, not measured.")
@click.option("--timeout", default="30s", callback=_TIME, help="A request's.")
@click.option("--seed", default=0, help="Of rows, mix and arrivals.")
@click.option("--workers", default=1, help="Processes that send.")
@click.option("--metrics", metavar="HOST:PORT", help="The server's /metrics, for its own view.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.option("--out", type=_FILE, help="JSON file as well.")
@click.option("--csv", "csv_file", type=_FILE, help="CSV file as well, a line a run.")
@click.option("--html", "html_file", type=_FILE, help="Page as well, with curves.")
@click.option("--compare", "older", type=_FILE, help="Older --out: print the ratios to it.")
@click.option("--threshold", default=1.2, help="How many times worse --compare lets pass.")
def loadtest(
    *,
    address: str,
    model: str | None,
    rpc: str,
    rows: int,
    mix: tuple[Part, ...] | None,
    concurrency: int | None,
    rate: float | None,
    ramp: Steps | None,
    sweep: Steps | None,
    search: bool,
    slo: Slo | None,
    duration: float,
    warmup: float,
    timeout: float,
    metrics: str | None,
    as_json: bool,
    out: Path | None,
    csv_file: Path | None,
    html_file: Path | None,
    older: Path | None,
    threshold: float,
    **settings: Any,
) -> None:
    """Measure the latency of the server at ADDRESS (host:port) under load.

    One of --concurrency, --rate, --ramp, --sweep and --find-max is required. In an open loop a
    latency counts from the moment at which the request was to start: a server that stalls cannot
    hide it.

    Exit status 1: every request failed, no rate was found that holds the service level, or
    something ended it before its time; what was finished is printed and written all the same. 2:
    the command line is wrong, or the older report has nothing of these loads; nothing was sent.
    3: worse than the older report by more than the threshold, or over 1 % more requests failed.
    """
    for file in (out, csv_file, html_file):
        if file and not file.parent.is_dir():
            raise click.UsageError(f"the folder {str(file.parent)!r} does not exist")
    if search != (slo is not None):
        raise click.UsageError("--find-max and --slo go together")
    common = settings | {
        "address": address,
        "mix": mix or (Part(rpc, rows),),
        "duration_s": duration,
        "warmup_s": warmup,
        "timeout_s": timeout,
        **credentials()._asdict(),
    }
    with _told():
        loads = _loads(
            # Asked for last, once the rest of the command line makes sense.
            common | {"model": model or ""},
            concurrency=concurrency,
            rate=rate,
            ramp=ramp,
            sweep=sweep,
            search=search,
        )
        before = read_older(older, loads, slo) if older else None
        if model is None:
            with client_at(address) as client:
                only = only_model(client, timeout)
            loads = [replace(load, model=only) for load in loads]
        if slo:
            _announce(loads[0])
        whole = measured(loads, slo, lambda load: _shown(load, metrics))

    written = to_json(whole.reports, whole.found)
    stopped_search = slo is not None and whole.found is None
    comparisons = [] if before is None or stopped_search else compare(before, written)
    click.echo(json_text(written) if as_json else _table(whole))
    if comparisons:
        click.echo("\n" + comparison_table(comparisons, threshold), err=as_json)
    unwritten = write_all(
        (out, lambda: json_text(written) + "\n"),
        (csv_file, lambda: to_csv(whole.reports)),
        (html_file, lambda: _page(whole)),
    )
    for failure in unwritten:
        click.echo(f"Error: {failure}", err=True)
    if whole.stopped:
        click.echo(f"stopped after {counted(len(whole.reports), 'run')}", err=True)
        with _told():
            raise whole.stopped
    nothing = all(report.requests and not report.succeeded for report in whole.reports)
    if unwritten or nothing or (whole.found and whole.found.rate is None):
        sys.exit(1)
    if any(each.worse_than(threshold) for each in comparisons):
        sys.exit(_WORSE)


@contextmanager
def _told() -> Iterator[None]:
    """Tells in one line what went wrong."""
    try:
        yield
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    except (OSError, WorkerDied, NothingAnsweredError) as exc:
        raise click.ClickException(str(exc)) from exc


def _loads(
    common: dict[str, Any],
    *,
    concurrency: int | None,
    rate: float | None,
    ramp: Steps | None,
    sweep: Steps | None,
    search: bool,
) -> list[Load]:
    """The loads to measure, in turn; that of a search is its probe."""
    kinds: list[list[dict[str, Any]]] = []
    if concurrency is not None:
        kinds.append([{"concurrency": concurrency}])
    if rate is not None:
        kinds.append([{"rate": rate}])
    if ramp is not None:
        begin, end = ramp.values
        kinds.append([{ramp.of: end, "ramp_from": begin}])
    if sweep is not None:
        kinds.append([{sweep.of: value} for value in sweep.values])
    if search:
        kinds.append([{"concurrency": max(_PROBE_CALLERS, common["workers"])}])
    if len(kinds) != 1:
        raise ValueError(
            "give exactly one of --concurrency, --rate, --ramp, --sweep and --find-max"
        )
    return [Load(**common, **changes) for changes in kinds[0]]


def _shown(load: Load, metrics: str | None) -> Report:
    """Measure a load, and show meanwhile how it goes."""
    with shown(load.target) as progress:
        return run(load, progress, metrics_address=metrics)


def _announce(probe: Load) -> None:
    """Say how long a search may take."""
    runs, each_s = 1 + MOST_RUNS, probe.warmup_s + probe.duration_s
    seconds = runs * each_s
    span = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    click.echo(f"at most {runs} runs of {each_s:g} s, about {span}", err=True)


def _table(whole: Measured) -> str:
    if whole.found is not None:
        return found_table(whole.found)
    (first, *others) = whole.reports
    return sweep_table(whole.reports) if others else report_table(first)


def _page(whole: Measured) -> str:
    from vaeserve_loadtest.page import page  # noqa: PLC0415 - plotting is slow to import

    return page(whole.reports, whole.found, datetime.now().astimezone())
