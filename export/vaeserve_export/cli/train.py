"""The command `train`."""

# Heavy imports belong to the command that needs them.
# ruff: noqa: PLC0415

import dataclasses
import json
import shlex
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from vaeserve_export.cli.command import FOLDER, Command
from vaeserve_export.cli.data_options import data_options
from vaeserve_export.cli.stopping import stop_on_signals
from vaeserve_export.training.settings import (
    ACTIVATIONS,
    DEVICES,
    LIKELIHOODS,
    MODELS,
    OPTIMISERS,
    PRECISIONS,
    SCHEDULES,
    TrainSettings,
)

if TYPE_CHECKING:
    from vaeserve_export.training.records import Listener
    from vaeserve_export.training.run import Summary

_INTERRUPTED = 130  # as shells have it
_STOPPED = 75  # "try again later" of sysexits.h, and nothing else here

_DEFAULTS = TrainSettings()
_Function = TypeVar("_Function", bound=Callable[..., Any])
_among = click.Choice[str]


def _setting(name: str, text: str, **attributes: Any) -> Callable[[_Function], _Function]:
    """An option for a field of TrainSettings, with its default."""
    flag = f"--{name.replace('_', '-')}"
    return click.option(
        flag, default=getattr(_DEFAULTS, name), show_default=True, help=text, **attributes
    )


@click.command(cls=Command)
@data_options()
@click.option("--out", "run", required=True, type=FOLDER, help="Run folder to write.")
@_setting("model", "Architecture; ae and conv-ae have no noise and no KL.", type=_among(MODELS))
@_setting("latent_dim", "Latent dimensions.")
@_setting("hidden", "Width of the hidden layers; of conv of the one next to the latents.")
@_setting("layers", "Hidden layers of mlp and ae, in either direction.")
@_setting("activation", "After each hidden layer.", type=_among(ACTIVATIONS))
@_setting("likelihood", "p(x|z): both bernoullis for values in [0, 1].", type=_among(LIKELIHOODS))
@_setting("gaussian_variance", "Variance of the Gaussian likelihood, in squared data units.")
@_setting("learn_variance", "Learn that variance, from there on.", is_flag=True)
@_setting("epochs", "Passes over the training rows, at most.")
@_setting("batch_size", "Rows a step, of all processes together.")
@_setting("optimiser", "muon: for weight matrices, beside Adam.", type=_among(OPTIMISERS))
@_setting("learning_rate", "Of the optimiser; with muon, Adam's is a tenth.")
@_setting("schedule", "Of the learning rate over all epochs.", type=_among(SCHEDULES))
@_setting("beta", "Weight of the KL in the loss.")
@_setting("kl_warmup_epochs", "Epochs over which that weight grows to beta.")
@_setting("kl_cycle_epochs", "Epochs after which that growth starts again; 0: never.")
@_setting("free_bits", "Nats of KL in each latent dimension that cost nothing.")
@_setting("patience", "Epochs without a better validation loss before training stops.")
@_setting("binarise", "Draw binary pixels anew each epoch.", is_flag=True)
@_setting("seed", "Of everything random.")
@_setting("precision", "Of the factors of matrix products in training.", type=_among(PRECISIONS))
@_setting("threads", "PyTorch's threads; 0: measured.")
@_setting("device", "Where to train.", type=_among(DEVICES))
@click.option("--resume", is_flag=True, help="Continue the run in the folder, as it was set up.")
@click.option("--tensorboard", is_flag=True, help="Write the figures for TensorBoard, too.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def train(
    *,
    spec: str,
    data_dir: Path | None,
    run: Path,
    resume: bool,
    tensorboard: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Train a VAE and keep its best weights.

    The loss is reconstruction + beta * KL in nats per row, both summed and not averaged over the
    row's elements and the latent dimensions. What is printed is the loss at beta = 1, the -ELBO.
    SIGTERM or Ctrl-C writes a checkpoint and ends with status 75. Several processes train one
    model under torchrun.
    """
    from vaeserve_export.cli.processes import joined
    from vaeserve_export.data import dataset as data
    from vaeserve_export.evaluation.still_improving import still_improving
    from vaeserve_export.training import progress, train as training
    from vaeserve_export.training.records import read_records
    from vaeserve_export.training.run import METRICS
    from vaeserve_export.training.saving import Stopped
    from vaeserve_export.training.tensorboard import TensorBoard

    if resume:
        settings = _resumed(run, settings)
    chosen = TrainSettings(**settings)
    dataset = data.load(spec, data_dir=data_dir)
    train_rows, validation_rows = data.part_sizes(dataset)
    with joined(chosen.device) as group, stop_on_signals() as stop, ExitStack() as shown:
        listeners: list[Listener] = []
        if group.first:
            click.echo(
                f"{spec}: {train_rows} rows to train on and {validation_rows} to validate, "
                f"{list(dataset.row_shape)} each, "
                f"values {dataset.x.min():g} to {dataset.x.max():g}; "
                f"{chosen.model}, {chosen.likelihood}, at most {chosen.epochs} epochs",
                err=as_json,
            )
            bar = progress.show(chosen.epochs, train_rows, to_stderr=as_json)
            listeners.append(shown.enter_context(bar))
            if tensorboard:
                listeners.append(shown.enter_context(TensorBoard(run)))
        try:
            summary = training.train(
                chosen, dataset, run, resume=resume, listeners=listeners, stop=stop
            )
        except Stopped:
            if group.first:
                again = _again(spec, data_dir, run)
                click.echo(f"\nstopped, and nothing is lost; go on with: {again}", err=True)
            sys.exit(_STOPPED)
        except KeyboardInterrupt:
            click.echo(
                f"\ninterrupted; go on with --resume, or finish with --resume --epochs 1: {run}",
                err=True,
            )
            sys.exit(_INTERRUPTED)
    if group.first:
        _tell(run, summary, as_json=as_json)
        if remark := still_improving(read_records(run / METRICS), chosen.patience):
            longer = _again(spec, data_dir, run, "--epochs", str(2 * summary.epochs_run))
            click.echo(f"still improving: {remark.evidence[0]} Train longer: {longer}", err=True)


def _again(spec: str, data_dir: Path | None, run: Path, *more: str) -> str:
    """The command that goes on with the run."""
    words = ["vaeserve", "train", "--data", spec, "--out", str(run), "--resume", *more]
    return shlex.join([*words, "--data-dir", str(data_dir)] if data_dir else words)


def _resumed(run: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The run's own settings, but for what was typed now."""
    from vaeserve_export.training.run import read_config

    context = click.get_current_context()
    typed = {
        name: value
        for name, value in settings.items()
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    return dataclasses.asdict(read_config(run).settings) | typed


def _tell(run: Path, best: "Summary", *, as_json: bool) -> None:
    """Print the result, and what should worry."""
    click.echo(json.dumps(dataclasses.asdict(best)) if as_json else _trained(run, best))
    if not best.active_units:
        click.echo(
            "warning: no latent dimension is active, the decoder ignores the latents: "
            "train longer, warm the KL up, or lower beta or the learning rate",
            err=True,
        )


def _trained(run: Path, best: "Summary") -> str:
    return (
        f"{run}: best of {best.epochs_run} epochs is {best.epochs}: "
        f"-ELBO {best.negative_elbo_nats:.2f} = reconstruction {best.reconstruction_nats:.2f} "
        f"+ KL {best.kl_nats:.2f} nats a row, {best.active_units} active units"
    )
