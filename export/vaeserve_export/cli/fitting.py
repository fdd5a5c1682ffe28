"""What the commands that fit something to a trained model share."""

# Heavy imports belong to the command that needs them.
# ruff: noqa: PLC0415

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vaeserve_export.cli.versions import tell_versions

if TYPE_CHECKING:
    from vaeserve_export.data.dataset import Dataset
    from vaeserve_export.latent.attribute import AttributeFit
    from vaeserve_export.latent.prior import PriorFit
    from vaeserve_export.trained.subject import Subject


def seed_of(subject: "Subject", data: "Dataset", seed: int | None) -> int:
    """The seed that was typed, else the run's, whose held-out rows its training did not see.

    Warns where it is not known that the rows which report took no part in the training.
    """
    from vaeserve_export.trained.of_run import RunSubject
    from vaeserve_export.trained.rows import same_data
    from vaeserve_export.training.run import read_config

    name = subject.origin.name
    trained = seed
    if isinstance(subject, RunSubject):
        trained = read_config(subject.origin.folder).settings.seed
    taken = (trained or 0) if seed is None else seed
    doubt = ""
    if not same_data(subject, data):
        known = "is not what" if subject.origin.data_sha256 else "is not known to be what"
        doubt = f"{data.name} {known} {name} was trained on"
    elif data.validation is None and trained is None:
        doubt = f"{name} does not tell the seed of its training, {taken} is taken (--seed)"
    elif data.validation is None and taken != trained:
        doubt = f"{name} was trained with seed {trained}, not {taken}"
    if doubt:
        click.echo(
            f"warning: {doubt}: the rows that report may be among those it was trained on",
            err=True,
        )
    return taken


def tell(place: Path, fit: "PriorFit | AttributeFit", text: str, *, as_json: bool) -> None:
    """Print where the result lies and what it is; beside it how to serve it, and warnings."""
    import json

    from google.protobuf import json_format

    from vaeserve.v1 import bundle

    if as_json:
        values = json_format.MessageToDict(fit.entry, preserving_proto_field_name=True)
        click.echo(json.dumps({"folder": str(place)} | values))
    else:
        click.echo(f"{text}\n{place}")
    if (place / bundle.MANIFEST).exists():
        tell_versions(place)
    else:
        command = shlex.join(["vaeserve", "export", str(place)])
        click.echo(
            f"kept in the run; next, to serve it: {command} --repository DIR --name NAME", err=True
        )
    for warning in fit.warnings:
        click.echo(warning, err=True)
