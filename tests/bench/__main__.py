"""`make bench`: the service beside its peers, on this machine, in one run."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import click

from bench import h2load, report, triton
from bench.cases import RPCS, STREAMS
from bench.models import MODELS, repository_of
from bench.results import Results
from bench.servers import Settings
from bench.suite import RAW, SERVERS, Plan, Suite

_ROWS = (1, 16)


def _names(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    del ctx
    known = (RAW, *SERVERS) if param.name == "servers" else RPCS
    chosen = tuple(value.split(","))
    if unknown := set(chosen) - set(known):
        raise click.BadParameter(f"{', '.join(sorted(unknown))}: choose from {', '.join(known)}")
    return chosen


@click.command(context_settings={"show_default": True})
@click.option("--only", type=click.Choice(tuple(MODELS)), help="One model.")
@click.option("--servers", default=",".join((RAW, *SERVERS)), callback=_names, help="Some servers.")
@click.option("--rpcs", default=",".join(RPCS), callback=_names, help="Some RPCs.")
@click.option("--repeat", default=5, help="Repetitions; medians are shown.")
@click.option("--seconds", default=1.0, help="About how long each measurement takes.")
@click.option("--quick", is_flag=True, help="Encode, one row, 8 and 64 streams, once.")
@click.option("--figures/--no-figures", default=True, help="The service's own figures too.")
@click.option("--threads", default=1, help="ONNX Runtime threads of every server.")
@click.option("--python", default=sys.executable, help="Interpreter that runs the service.")
@click.option("--home", type=click.Path(path_type=Path), default=".bench", help="Models and logs.")
@click.option("--out", type=click.Path(path_type=Path), default=".bench/bench.json", help="JSON.")
@click.option("--markdown", type=click.Path(path_type=Path), help="Tables for docs/performance.md.")
def main(
    *,
    only: str | None,
    servers: tuple[str, ...],
    rpcs: tuple[str, ...],
    repeat: int,
    seconds: float,
    quick: bool,
    figures: bool,
    threads: int,
    python: str,
    home: Path,
    out: Path,
    markdown: Path | None,
) -> None:
    """Measure the service and its peers, print what was found, and each bar with its verdict."""
    if not h2load.available():
        raise click.ClickException(h2load.MISSING)
    if "triton" in servers and not triton.installed(home):
        click.echo("Triton is not installed and is left out: `make bench-peers` installs it")
        servers = tuple(name for name in servers if name != "triton")
    plan = Plan(servers, rpcs, _ROWS, STREAMS, repeat, seconds, figures)
    if quick:
        plan = Plan(servers, ("encode",), (1,), (8, 64), 1, seconds, figures=False)
    command = shlex.join(["python", "-m", "bench", *sys.argv[1:]])
    results = Results()
    progress = _progress()
    for name, model in MODELS.items():
        if only in (None, name):
            progress(f"training and exporting {name}, unless an earlier run has")
            settings = Settings(model, repository_of(model, home), threads, python, home)
            for key in Suite(settings, plan, results, progress).run():
                progress("")
                click.echo("\n".join(report.lines_of(results, key)))
                out.write_text(results.to_json(command))
    progress("")
    click.echo("\n".join(report.verdicts(results)))
    out.write_text(results.to_json(command))
    if markdown is not None:
        markdown.write_text(report.to_markdown(results, command))


def _progress() -> Callable[[str], None]:
    """One line that is written over on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        return lambda _: None
    return lambda text: click.echo(f"\r\033[K{text}", err=True, nl=False)


if __name__ == "__main__":
    main()
