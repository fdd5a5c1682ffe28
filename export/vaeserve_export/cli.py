"""The commands `train`, `export` and `verify`; `vaeserve` loads them from here by name."""

# Heavy imports belong to the command that needs them.
# ruff: noqa: PLC0415

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from vaeserve_export.errors import VaeError
from vaeserve_export.settings import LIKELIHOODS, MODELS, TrainSettings

if TYPE_CHECKING:
    from vaeserve_export.run import Summary
    from vaeserve_export.verify import Verification

_INTERRUPTED = 130  # as shells have it

_DEFAULTS = TrainSettings()
_Function = TypeVar("_Function", bound=Callable[..., Any])

_FOLDER = click.Path(file_okay=False, path_type=Path)


class Command(click.Command):
    """A command that shows errors the user can mend as one line, with exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except VaeError as error:
            raise click.ClickException(str(error)) from error


def _setting(name: str, text: str, **attributes: Any) -> Callable[[_Function], _Function]:
    """An option for a field of TrainSettings, with its default."""
    flag = f"--{name.replace('_', '-')}"
    return click.option(
        flag, default=getattr(_DEFAULTS, name), show_default=True, help=text, **attributes
    )


@click.command(cls=Command)
@click.option(
    "--data",
    "spec",
    required=True,
    metavar="SOURCE",
    help="digits, idx:DIR (MNIST-like files), npz:FILE or folder:DIR (PNG, JPEG).",
)
@click.option("--out", "run", required=True, type=_FOLDER, help="Run folder to write.")
@_setting("model", "Architecture.", type=click.Choice(MODELS))
@_setting("latent_dim", "Latent dimensions.")
@_setting("hidden", "Width of the hidden layer next to the latents.")
@_setting("likelihood", "p(x|z): bernoulli for values in [0, 1].", type=click.Choice(LIKELIHOODS))
@_setting("gaussian_variance", "Variance of the Gaussian likelihood, in squared data units.")
@_setting("epochs", "Passes over the training rows, at most.")
@_setting("batch_size", "Rows a step.")
@_setting("learning_rate", "Of Adam.")
@_setting("beta", "Weight of the KL in the loss.")
@_setting("kl_warmup_epochs", "Epochs over which that weight grows to beta.")
@_setting("patience", "Epochs without a better validation loss before training stops.")
@_setting("binarise", "Draw binary pixels anew each epoch.", is_flag=True)
@_setting("seed", "Of everything random.")
@_setting("threads", "PyTorch's threads.")
@click.option("--resume", is_flag=True, help="Continue the run in the folder, as it was set up.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def train(spec: str, run: Path, resume: bool, as_json: bool, **settings: Any) -> None:
    """Train a VAE and keep its best weights.

    The loss is reconstruction + beta * KL in nats per row, both summed and not averaged over the
    row's elements and the latent dimensions. What is printed is the loss at beta = 1, the -ELBO.
    """
    from vaeserve_export import data, progress, train as training

    if resume:
        settings = _resumed(run, settings)
    chosen = TrainSettings(**settings)
    dataset = data.load(spec)
    train_rows, validation_rows = map(len, data.split(len(dataset.x), chosen.seed))
    click.echo(
        f"{spec}: {train_rows} rows to train on and {validation_rows} to validate, "
        f"{list(dataset.row_shape)} each, values {dataset.x.min():g} to {dataset.x.max():g}; "
        f"{chosen.model}, {chosen.likelihood}, at most {chosen.epochs} epochs",
        err=as_json,
    )
    try:
        with progress.show(chosen.epochs, train_rows, to_stderr=as_json) as listener:
            summary = training.train(chosen, dataset, run, resume=resume, listener=listener)
    except KeyboardInterrupt:
        click.echo(
            f"\ninterrupted; go on with --resume, or finish with --resume --epochs 1: {run}",
            err=True,
        )
        sys.exit(_INTERRUPTED)
    click.echo(json.dumps(dataclasses.asdict(summary)) if as_json else _trained(run, summary))
    if not summary.active_units:
        click.echo(
            "warning: no latent dimension is active, the decoder ignores the latents: "
            "train longer, warm the KL up, or lower beta or the learning rate",
            err=True,
        )


def _resumed(run: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The run's own settings, but for what was typed now."""
    from vaeserve_export.run import read_config

    context = click.get_current_context()
    typed = {
        name: value
        for name, value in settings.items()
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    return dataclasses.asdict(read_config(run).settings) | typed


@click.command(cls=Command)
@click.argument("run", type=_FOLDER)
@click.option("--repository", required=True, type=_FOLDER, help="Folder of models to add to.")
@click.option("--name", required=True, help="Name of the model: a-z, 0-9, dot, dash, underscore.")
@click.option("--version", type=int, help="Version; one above the highest there is by default.")
def export(run: Path, repository: Path, name: str, version: int | None) -> None:
    """Export the run RUN as a verified bundle: REPOSITORY/NAME/VERSION."""
    from vaeserve_export.bundle import export_run

    click.echo(export_run(run, repository, name, version))


@click.command(cls=Command)
@click.argument("bundle", type=_FOLDER)
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def verify(bundle: Path, as_json: bool) -> None:
    """Check the bundle in the version folder BUNDLE and record the measured parity in it."""
    from google.protobuf import json_format

    from vaeserve_export.verify import verify as verify_bundle

    result = verify_bundle(bundle)
    if as_json:
        click.echo(json_format.MessageToJson(result.info, preserving_proto_field_name=True))
    else:
        click.echo(_verified(result))


def _trained(run: Path, best: "Summary") -> str:
    return (
        f"{run}: best of {best.epochs_run} epochs is {best.epochs}: "
        f"-ELBO {best.negative_elbo_nats:.2f} = reconstruction {best.reconstruction_nats:.2f} "
        f"+ KL {best.kl_nats:.2f} nats a row, {best.active_units} active units"
    )


def _verified(result: "Verification") -> str:
    info, numerics = result.info, result.info.numerics
    rows = [
        ("model", f"{info.name} version {info.version}"),
        ("files", f"{len(info.files)} as listed"),
        ("graphs", "valid, deterministic, standard operators"),
        ("golden rows", f"{numerics.rows} on {numerics.provider} {numerics.onnxruntime_version}"),
        ("parity mu", f"{numerics.parity_mu:.2g}"),
        ("parity log_var", f"{numerics.parity_log_var:.2g}"),
        ("parity x_hat", f"{numerics.parity_x_hat:.2g}"),
        ("batch difference", f"{numerics.batch_difference:.2g}"),
        ("manifest", "figures recorded" if result.recorded else "read-only: figures not recorded"),
    ]
    return "\n".join(f"{name:18}{value}" for name, value in rows)
