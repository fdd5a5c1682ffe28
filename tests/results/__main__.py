"""`make results`: train and measure every row of docs/results.md.

Two rows at a time, one thread each. A row that is finished is not repeated, one that was stopped
goes on from its checkpoint: the command may be stopped at any time and started again.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click

from results.rows import ROWS, Row
from results.table import table


@click.command(context_settings={"show_default": True})
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where the data sets are.")
@click.option("--home", type=click.Path(path_type=Path), default=".results", help="Runs, figures.")
@click.option("--only", multiple=True, help="Some rows, by name.")
@click.option("--jobs", default=2, help="Rows at a time.")
def main(*, data_dir: Path | None, home: Path, only: tuple[str, ...], jobs: int) -> None:
    """Print the table of results, as Markdown."""
    if unknown := set(only) - {row.name for row in ROWS}:
        raise click.BadParameter(f"no such row: {', '.join(sorted(unknown))}", param_hint="--only")
    chosen = [row for row in ROWS if not only or row.name in only]
    with ThreadPoolExecutor(jobs) as pool:
        # The long ones first, so that both processors are busy to the end.
        ordered = sorted(chosen, key=lambda row: -row.budget)
        done = list(pool.map(lambda row: (row, _figures(row, home / row.name, data_dir)), ordered))
    click.echo(table([pair for row in ROWS for pair in done if pair[0] is row]))


def _figures(row: Row, folder: Path, data_dir: Path | None) -> dict[str, Any]:
    """Train, measure, and return the measured figures."""
    run, figures = folder / "run", folder / "evaluation.json"
    source = row.data.format(data_dir=data_dir or ".")
    data = ("--data", source, *(("--data-dir", str(data_dir)) if data_dir else ()))
    if not (run / "summary.json").exists():
        resume = ("--resume",) if (run / "checkpoint.safetensors").exists() else ()
        folder.mkdir(parents=True, exist_ok=True)
        _vaeserve(row, folder, "train", *data, "--out", str(run), *row.train, *resume)
    if not figures.exists():
        text = _vaeserve(row, folder, "evaluate", str(run), *data, *row.evaluate, "--json")
        figures.write_text(text)
    return {
        "evaluation": json.loads(figures.read_text()),
        "summary": json.loads((run / "summary.json").read_text()),
        "config": json.loads((run / "config.json").read_text()),
    }


def _vaeserve(row: Row, folder: Path, *arguments: str) -> str:
    """Run a command; its progress goes to a log in the row's folder."""
    click.echo(f"{row.name}: vaeserve {' '.join(arguments)}", err=True)
    command: Sequence[str] = (sys.executable, "-m", "vaeserve", *arguments)
    with (folder / "log.txt").open("a") as log:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True, check=False)
    if done.returncode:
        last = (folder / "log.txt").read_text().splitlines()[-1:]
        raise click.ClickException(f"{row.name}: {' '.join(last)} (all of it: {folder}/log.txt)")
    return done.stdout


if __name__ == "__main__":
    main()
