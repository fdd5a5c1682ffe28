"""`vaeserve demo`: every step as a user would type it, in order."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

MODEL = "digits"
# Gaussian: the grey levels of so few pixels are intensities, not probabilities.
_TRAINING = (
    *("--data", "digits", "--model", "mlp"),
    *("--likelihood", "gaussian", "--gaussian-variance", "0.07", "--epochs", "500"),
)
_MARKER = ".vaeserve-demo"
_LOADS = (
    ("encode", ("--concurrency", "1")),
    ("encode", ("--concurrency", "16")),
    ("sample", ("--concurrency", "16")),
    ("decode", ("--concurrency", "16")),
    ("encode", ("--rate", "300")),
)
_LOAD_DURATION, _LOAD_WARMUP = "4s", "1s"
_START_SECONDS = 60
_STOP_SECONDS = 30
_POLL_SECONDS = 0.05


@click.command(context_settings={"show_default": True})
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo"),
    help="Folder for the run, the model repository, the pictures and the latency table.",
)
def demo(out: Path) -> None:
    """Train on handwritten digits, export, verify, serve, call, load-test, draw.

    Takes about a minute on two cores and downloads nothing.
    """
    from vaeserve_demo import tour  # noqa: PLC0415  loads matplotlib and scikit-learn

    start = time.monotonic()
    _make_room(out)
    run, repository = out / "run", out / "repository"
    _step(1, "train a VAE on 1,797 scans of handwritten digits")
    _vaeserve("train", *_TRAINING, "--out", str(run))
    _step(2, "export the encoder and the decoder as two ONNX graphs")
    _vaeserve("export", str(run), "--repository", str(repository), "--name", MODEL)
    _step(3, "verify the bundle without PyTorch")
    _vaeserve("verify", str(repository / MODEL / "1"))
    _step(4, "serve it on a free port")
    with _server(repository, out / "server.log") as address:
        click.echo(f"serving on {address}")
        _step(5, "call it through the SDK and draw what comes back")
        tour.walk(address, MODEL, run, out)
        _step(6, "load-test it")
        table = _load_test(address, out)
    click.echo(f"\nDone in {time.monotonic() - start:.0f} s. Look at {out}/:")
    for picture in sorted(out.glob("*.png")):
        click.echo(f"  {picture.name}")
    click.echo(f"\n{table}\n(also in {out / 'latency.txt'})")


def _step(number: int, text: str) -> None:
    click.secho(f"\n[{number}/6] {text}", bold=True)


def _make_room(out: Path) -> None:
    """Take an empty folder, or one that an earlier demo made; never anybody else's."""
    if out.exists() and any(out.iterdir()):
        if not (out / _MARKER).exists():
            raise click.ClickException(f"{out} is not empty; give another folder with --out")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARKER).touch()


def _vaeserve(*arguments: str, stdout: int | None = None) -> None:
    """Run a sub-command with its progress on our terminal."""
    command = [sys.executable, "-m", "vaeserve", *arguments]
    click.echo(f"$ vaeserve {' '.join(arguments)}")
    if subprocess.run(command, check=False, stdout=stdout).returncode:  # noqa: S603  our own command
        raise click.ClickException(f"vaeserve {arguments[0]} failed; see above")


@contextmanager
def _server(repository: Path, log: Path) -> Iterator[str]:
    """Start a real server process and wait until it says where it is ready."""
    command = [sys.executable, "-m", "vaeserve", "serve", str(repository)]
    command += ["--address", "127.0.0.1:0", "--metrics-address", "127.0.0.1:0"]
    command += ["--drain-delay", "0"]
    with log.open("w") as lines, subprocess.Popen(command, stdout=lines) as process:  # noqa: S603
        try:
            yield _ready_address(process, log)
        finally:
            process.terminate()
            try:
                process.wait(timeout=_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _ready_address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    end = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        # Whole lines only: the last one may still be on its way.
        for line in log.read_text().split("\n")[:-1]:
            record = json.loads(line)
            if record.get("message") == "ready":
                return str(record["address"])
        time.sleep(_POLL_SECONDS)
    raise click.ClickException(f"the server did not become ready; see {log}")


def _load_test(address: str, out: Path) -> str:
    """Run each load and lay the reports out as one table."""
    header = ("rpc", "load", "requests/s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "errors")
    lines: list[tuple[str, ...]] = [header]
    for rpc, (option, value) in _LOADS:
        report = out / f"load-{rpc}-{option.strip('-')}-{value}.json"
        _vaeserve(
            *("loadtest", address, "--model", MODEL, "--rpc", rpc, "--rows", "1", option, value),
            *("--duration", _LOAD_DURATION, "--warmup", _LOAD_WARMUP, "--out", str(report)),
            stdout=subprocess.DEVNULL,
        )
        (measured,) = json.loads(report.read_text())["runs"]
        latency = measured["latency_ms"]
        callers = "1 caller" if value == "1" else f"{value} callers"
        load = callers if option == "--concurrency" else f"{value} a second"
        percentiles = [f"{latency[key]:.2f}" for key in ("p50", "p90", "p99", "p99_9")]
        throughput = f"{measured['requests_per_second']:.0f}"
        lines.append((rpc, load, throughput, *percentiles, str(measured["failed"])))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )
    (out / "latency.txt").write_text(table + "\n")
    return table
