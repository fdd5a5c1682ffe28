"""The command `export`."""

# Heavy imports belong to the command that needs them.
# ruff: noqa: PLC0415

from pathlib import Path

import click

from vaeserve_export.cli.command import FOLDER, Command
from vaeserve_export.cli.data_options import data_options
from vaeserve_export.cli.versions import tell_versions


@click.command(cls=Command)
@click.argument("run", type=FOLDER)
@click.option("--repository", required=True, type=FOLDER, help="Folder of models to add to.")
@click.option("--name", required=True, help="Name of the model: a-z, 0-9, dot, dash, underscore.")
@click.option("--version", type=int, help="Version; one above the highest there is by default.")
@click.option(
    "--precision",
    type=click.Choice(["float32", "fp16", "int8", "dynamic-int8"]),
    default="float32",
    show_default=True,
    help="Arithmetic of the graphs; less has a cost, which is measured. dynamic-int8 is refused.",
)
@data_options(required=False)
def export(
    run: Path,
    *,
    repository: Path,
    name: str,
    version: int | None,
    precision: str,
    spec: str | None,
    data_dir: Path | None,
) -> None:
    """Export the run RUN as a verified bundle: REPOSITORY/NAME/VERSION.

    With the run's data, fp16 and int8 are set on its training rows and their cost is measured on
    its validation rows; without it, on decoded samples of the model's own.
    """
    if spec is not None and precision == "float32":
        raise click.UsageError("--data is for --precision fp16 or int8: float32 has no cost")
    from vaeserve.v1 import bundle
    from vaeserve_export.bundling.of_run import export_run
    from vaeserve_export.cli import precision as precisions
    from vaeserve_export.data import dataset as data

    dataset = None if spec is None else data.load(spec, data_dir=data_dir)
    folder = export_run(run, repository, name, version, precision=precision, dataset=dataset)
    click.echo(folder)
    tell_versions(folder)
    if precision != "float32":
        click.echo(precisions.text(bundle.read_manifest(folder)), err=True)
