"""The command `export`."""

# Heavy imports belong to the command that needs them.
# ruff: noqa: PLC0415

from pathlib import Path

import click

from vaeserve_export.cli.command import FOLDER, Command


@click.command(cls=Command)
@click.argument("run", type=FOLDER)
@click.option("--repository", required=True, type=FOLDER, help="Folder of models to add to.")
@click.option("--name", required=True, help="Name of the model: a-z, 0-9, dot, dash, underscore.")
@click.option("--version", type=int, help="Version; one above the highest there is by default.")
def export(run: Path, repository: Path, name: str, version: int | None) -> None:
    """Export the run RUN as a verified bundle: REPOSITORY/NAME/VERSION."""
    from vaeserve_export.bundling.of_run import export_run

    click.echo(export_run(run, repository, name, version))
