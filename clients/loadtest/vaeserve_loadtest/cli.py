"""`vaeserve loadtest`: arguments in, a table or JSON out."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from vaeserve_loadtest.load import RPCS, Load
from vaeserve_loadtest.runner import Progress, run

_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0}


def _seconds(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """Read "500ms", "10s", "2m" or a plain number of seconds."""
    number = value.rstrip("ms")
    try:
        return float(number) * _UNITS[value[len(number) :] or "s"]
    except (ValueError, KeyError):
        raise click.BadParameter(f"{value!r} is no time such as 10s, 500ms or 2m") from None


@click.command()
@click.argument("address")
@click.option("--model", required=True, help="Name of the model.")
@click.option("--rpc", type=click.Choice(RPCS), default="encode", show_default=True)
@click.option("--rows", default=1, show_default=True, help="Rows of each request.")
@click.option("--concurrency", type=int, help="Closed loop: callers that wait for their answers.")
@click.option("--rate", type=float, help="Open loop: requests a second, whatever the server does.")
@click.option("--duration", default="10s", show_default=True, callback=_seconds, help="Measured.")
@click.option("--warmup", default="2s", show_default=True, callback=_seconds, help="Not measured.")
@click.option("--timeout", default="30s", show_default=True, callback=_seconds, help="A request's.")
@click.option("--seed", default=0, show_default=True, help="Of the rows and the arrivals.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="JSON file as well.")
def loadtest(
    *,
    address: str,
    model: str,
    rpc: str,
    rows: int,
    concurrency: int | None,
    rate: float | None,
    duration: float,
    warmup: float,
    timeout: float,
    seed: int,
    as_json: bool,
    out: Path | None,
) -> None:
    """Measure the latency of the server at ADDRESS (host:port) under load.

    One of --concurrency and --rate is required.

    Exit code 1: every request failed.
    """
    if out and not out.parent.is_dir():
        raise click.UsageError(f"the folder {str(out.parent)!r} of --out does not exist")
    try:
        load = Load(
            address=address,
            model=model,
            rpc=rpc,
            rows=rows,
            concurrency=concurrency,
            rate=rate,
            duration_s=duration,
            warmup_s=warmup,
            timeout_s=timeout,
            seed=seed,
        )
        with _progress() as progress:
            report = run(load, progress)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    click.echo(report.to_json() if as_json else report.to_table())
    if out:
        try:
            out.write_text(report.to_json() + "\n")
        except OSError as exc:
            raise click.ClickException(f"{out} cannot be written: {exc.strerror}") from exc
    if report.requests and not report.succeeded:
        sys.exit(1)


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on stderr where that is a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=100, file=sys.stderr) as bar:
        yield lambda share: bar.update(round(share * 100) - bar.pos)
