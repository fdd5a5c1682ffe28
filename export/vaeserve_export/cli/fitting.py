"""What the commands that fit something to a trained model share."""

# Heavy imports belong to the command that needs them.
# ruff: noqa: PLC0415

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vaeserve_export.cli.versions import tell_versions

if TYPE_CHECKING:
    from google.protobuf.message import Message


def seed_of(model: Path, seed: int | None) -> int:
    """The seed that was typed, else the run's, whose held-out rows its training did not see."""
    from vaeserve.v1 import bundle
    from vaeserve_export.training.run import read_config

    if seed is not None:
        return seed
    return 0 if (model / bundle.MANIFEST).exists() else read_config(model).settings.seed


def tell(place: Path, entry: "Message", text: str, *, as_json: bool) -> None:
    """Print where the result lies and what it is, and beside it how it comes to be served."""
    import json

    from google.protobuf import json_format

    from vaeserve.v1 import bundle

    if as_json:
        values = json_format.MessageToDict(entry, preserving_proto_field_name=True)
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
