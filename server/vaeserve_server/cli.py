"""`vaeserve serve` and `vaeserve doctor`: options and environment in, exit codes out."""

import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

import click

_STARTUP_FAILED = 3
_KILLED_AT_ONCE = 1


@click.command(context_settings={"auto_envvar_prefix": "VAESERVE", "show_default": True})
@click.argument("repository", type=click.Path(path_type=Path))
@click.option(
    "--address", default="127.0.0.1:50051", help="HOST:PORT of gRPC; port 0 takes a free one."
)
@click.option(
    "--metrics-address", default="127.0.0.1:9464", help="HOST:PORT of /metrics; likewise."
)
@click.option(
    "--device",
    default="auto",
    help="auto, cpu, cuda or cuda:N; cuda fails at once if it cannot be had.",
)
@click.option("--threads", type=int, default=0, help="ONNX Runtime threads a graph; 0 measures.")
@click.option(
    "--transport",
    type=click.Choice(["auto", "lane", "standard"]),
    default="auto",
    help="lane: own completion queue; standard: grpcio's public API; auto: lane if it works.",
)
@click.option(
    "--placement",
    type=click.Choice(["auto", "inline", "thread"]),
    default="auto",
    help="Run batches on the lane's thread or the graph's own; auto goes by run times.",
)
@click.option("--max-rows", type=int, default=256, help="Most rows of a request and of a batch.")
@click.option(
    "--max-queue-rows", type=int, default=4096, help="Most rows that may wait for one graph."
)
@click.option(
    "--max-delay-ms", type=float, default=0.0, help="How long a batch may wait for company."
)
@click.option(
    "--drain-delay",
    "drain_delay_s",
    type=float,
    default=5.0,
    help="Seconds between SIGTERM and refusing new calls.",
)
@click.option(
    "--grace",
    "grace_s",
    type=float,
    default=20.0,
    help="Seconds that calls in flight get to finish.",
)
@click.option(
    "--system-shared-memory",
    is_flag=True,
    help="Let callers name this host's shared memory; trusted callers only.",
)
def serve(**options: Any) -> None:
    """Serve every model of REPOSITORY over gRPC.

    Each option can be set by environment, VAESERVE_ADDRESS for --address. SIGTERM drains and ends
    with 0, a second one ends at once. Exit code 3: could not start.
    """
    from vaeserve_server import logs  # noqa: PLC0415  loaded only when called
    from vaeserve_server.app import App  # noqa: PLC0415
    from vaeserve_server.config import ServerConfig  # noqa: PLC0415
    from vaeserve_server.errors import StartupError  # noqa: PLC0415

    logs.configure()
    try:
        app = App(ServerConfig(**options))
    except (ValueError, StartupError) as error:
        _fail(str(error))
    stop = threading.Event()

    def on_signal(*_: object) -> None:
        if stop.is_set():
            os._exit(_KILLED_AT_ONCE)
        if not app.loaded:
            os._exit(0)  # nobody is being served yet
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    try:
        app.start()
    except StartupError as error:
        _fail(str(error))
    stop.wait()
    app.drain()
    logging.shutdown()
    # Not sys.exit: a run that hangs beyond the grace would hold the process.
    os._exit(0)


def _fail(message: str) -> NoReturn:
    click.echo(f"Error: {message}", err=True)
    sys.exit(_STARTUP_FAILED)


@click.command(context_settings={"show_default": True})
@click.argument("repository", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def doctor(repository: Path | None, as_json: bool) -> None:
    """Show what this machine offers, check REPOSITORY, and say what is wrong.

    Exit code 1 if anything is.
    """
    from vaeserve_server.doctor import examine  # noqa: PLC0415

    findings, problems = examine(repository)
    if as_json:
        click.echo(json.dumps({"findings": findings, "problems": problems}, indent=2))
    else:
        width = max(map(len, findings))
        for name, value in findings.items():
            click.echo(f"{name:<{width}}  {value}")
        for problem in problems:
            click.echo(f"problem: {problem}", err=True)
        click.echo("nothing is wrong" if not problems else f"{len(problems)} problem(s)")
    sys.exit(bool(problems))
