"""`vaeserve serve` and `vaeserve doctor`: options and environment in, exit codes out."""

import json
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

_STARTUP_FAILED = 3
_FILE = click.Path(dir_okay=False, path_type=Path)


class _Counts(click.ParamType[tuple[int, ...]]):
    """Positive integers with commas between."""

    name = "N,N,..."

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        """See click.ParamType."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(part) for part in value.split(",") if part)
        except ValueError:
            self.fail(f"{value!r} is not integers with commas between, such as 1,8,64", param, ctx)


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
    help="auto, cpu, cuda, cuda:N or cuda:N,M; cuda fails at once if it cannot be had.",
)
@click.option(
    "--tf32/--no-tf32",
    default=True,
    help="CUDA: let float32 products round their factors to 10 bits, as ONNX Runtime does.",
)
@click.option(
    "--gpu-memory-limit-mb",
    type=int,
    default=0,
    help="CUDA: most MiB of the arena of each session, a bucket of a graph; 0 for no limit.",
)
@click.option(
    "--cuda-graphs", is_flag=True, help="CUDA: record the run of each batch size and replay it."
)
@click.option("--tensorrt", is_flag=True, help="CUDA: TensorRT runs what it can of each graph.")
@click.option(
    "--engine-cache",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder where TensorRT keeps what it builds.",
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
@click.option(
    "--execution",
    type=click.Choice(["auto", "plain", "bound"]),
    default="auto",
    help="bound: padded buckets between fixed buffers, latents on the device; auto: on CUDA.",
)
@click.option(
    "--buckets",
    type=_Counts(),
    default="",
    show_default="powers of two",
    help="Row counts, such as 1,8,64, that bound execution pads to; max-rows is always one.",
)
@click.option(
    "--deterministic",
    is_flag=True,
    help="One bucket: a row's bits do not depend on how many came with it. Slower.",
)
@click.option("--max-rows", type=int, default=256, help="Most rows of a request and of a batch.")
@click.option(
    "--max-queue-rows", type=int, default=4096, help="Most rows that may wait for one graph."
)
@click.option(
    "--max-delay-ms",
    type=float,
    default=0.0,
    help="How long a batch may wait for company; it then runs on the graph's own thread.",
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
@click.option(
    "--workers",
    type=int,
    default=1,
    help="Processes that share the port and the CPUs; each has the models and a queue of its own.",
)
@click.option("--tls-cert", type=_FILE, help="Certificate chain of the gRPC port, PEM.")
@click.option("--tls-key", type=_FILE, help="Private key of --tls-cert, PEM.")
@click.option(
    "--tls-client-ca", type=_FILE, help="Take callers with a certificate of this authority only."
)
@click.option(
    "--token-file", type=_FILE, help="Take calls with a token of this file only; one a line."
)
def serve(**options: Any) -> None:
    """Serve every model of REPOSITORY over gRPC.

    Each option can be set by environment, VAESERVE_ADDRESS for --address. SIGTERM drains and ends
    with 0, a second one ends at once. Exit code 3: could not start.
    """
    from vaeserve_server import heap  # noqa: PLC0415  loaded only when called

    heap.limit_arenas()
    from vaeserve_server import logs  # noqa: PLC0415
    from vaeserve_server.config import ServerConfig  # noqa: PLC0415
    from vaeserve_server.errors import StartupError  # noqa: PLC0415

    logs.configure()
    try:
        config = ServerConfig(**options)
    except ValueError as error:
        _fail(str(error))
    try:
        if config.workers > 1:
            from vaeserve_server.supervisor import Supervisor  # noqa: PLC0415  loads no model

            sys.exit(Supervisor(config).run())
        from vaeserve_server.app import App  # noqa: PLC0415
        from vaeserve_server.process import serve_until_signal  # noqa: PLC0415

        serve_until_signal(App(config))
    except StartupError as error:
        _fail(str(error))


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
