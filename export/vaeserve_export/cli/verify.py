"""The command `verify`."""

# Heavy imports belong to the command that needs them.
# ruff: noqa: PLC0415

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vaeserve_export.cli.command import FOLDER, Command

if TYPE_CHECKING:
    from vaeserve_export.bundling.verify import Verification


@click.command(cls=Command)
@click.argument("bundle", type=FOLDER)
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def verify(bundle: Path, as_json: bool) -> None:
    """Check the bundle in the version folder BUNDLE and record the measured parity in it."""
    from google.protobuf import json_format

    from vaeserve_export.bundling.verify import verify as verify_bundle

    result = verify_bundle(bundle)
    if as_json:
        click.echo(json_format.MessageToJson(result.info, preserving_proto_field_name=True))
    else:
        click.echo(_verified(result))


def _verified(result: "Verification") -> str:
    from vaeserve_export.cli import precision as precisions

    info, numerics = result.info, result.info.numerics
    rows = [
        ("model", f"{info.name} version {info.version}"),
        ("files", f"{len(info.files)} as listed"),
        ("graphs", "valid, deterministic, standard operators"),
        ("precision", precisions.text(info)),
        ("golden rows", f"{numerics.rows} on {numerics.provider} {numerics.onnxruntime_version}"),
        ("parity mu", f"{numerics.parity_mu:.2g}"),
        ("parity log_var", f"{numerics.parity_log_var:.2g}"),
        ("parity x_hat", f"{numerics.parity_x_hat:.2g}"),
        ("batch difference", f"{numerics.batch_difference:.2g}"),
        ("manifest", "figures recorded" if result.recorded else "read-only: figures not recorded"),
    ]
    return "\n".join(f"{name:18}{value}" for name, value in rows)
