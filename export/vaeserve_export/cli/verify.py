"""The command `verify`."""

# Heavy imports belong to the command that needs them.
# ruff: noqa: PLC0415

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vaeserve_export.cli.command import FOLDER, Command

if TYPE_CHECKING:
    from vaeserve.v1.model_pb2 import DeviceNumerics
    from vaeserve_export.bundling.verify import Verification


@click.command(cls=Command)
@click.argument("bundle", type=FOLDER)
@click.option(
    "--device",
    default="cpu",
    metavar="cpu|cuda[:N]",
    show_default=True,
    help="Verify it on a GPU too, without TF32 and with it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def verify(bundle: Path, device: str, as_json: bool) -> None:
    """Check the bundle in the version folder BUNDLE and record the measured parity in it."""
    from google.protobuf import json_format

    from vaeserve_export.bundling.verify import verify as verify_bundle

    result = verify_bundle(bundle, device)
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
        *_on_device(result.on_device),
        ("manifest", "figures recorded" if result.recorded else "read-only: figures not recorded"),
    ]
    return "\n".join(f"{name:18}{value}" for name, value in rows)


def _on_device(measured: "list[DeviceNumerics]") -> list[tuple[str, str]]:
    """A row for the device, and for each setting of TF32 its parity and its differences."""
    rows = [
        ("device", f"{entry.device}, {entry.provider} {entry.onnxruntime_version}")
        for entry in measured[:1]
    ]
    for entry in measured:
        setting = f"TF32 {'on' if entry.tf32 else 'off'}"
        parity = (entry.parity_mu, entry.parity_log_var, entry.parity_x_hat)
        rows += [
            (f"{setting}, parity", " / ".join(f"{figure:.2g}" for figure in parity)),
            (
                f"{setting}, rows",
                f"{entry.within_bucket_difference:.2g} within a bucket, "
                f"{entry.across_buckets_difference:.2g} across buckets, "
                f"{entry.cpu_difference:.2g} from the CPU",
            ),
        ]
    return rows
