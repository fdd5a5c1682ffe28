"""The command `evaluate`."""

# Heavy imports belong to the command that needs them.
# ruff: noqa: PLC0415

import json
import math
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vaeserve_export.cli.command import FOLDER, SEED, Command
from vaeserve_export.cli.data_options import data_options

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

    from vaeserve_export.evaluation.evaluate import Evaluation
    from vaeserve_export.evaluation.posterior import PosteriorStatistics

_PARTS = ("test", "validation", "train")
_LINES = 10


@click.command(cls=Command, context_settings={"show_default": True})
@click.argument("model", type=FOLDER)
@data_options()
@click.option("--part", type=click.Choice(_PARTS), help="Rows; test by default, else validation.")
@click.option("--rows", type=click.IntRange(1), help="So many, drawn by --seed; all by default.")
@click.option("--samples", type=click.IntRange(1), default=5000, help="Importance samples a row.")
@click.option("--binarise", is_flag=True, help="Draw binary pixels once, with --seed.")
@click.option("--seed", type=SEED, default=0, help="Of pixels, noise and drawn rows.")
@click.option("--threads", type=click.IntRange(1), default=1, help="PyTorch's threads.")
@click.option("--json", "as_json", is_flag=True, help="Print every figure as JSON.")
def evaluate(
    *, model: Path, spec: str, data_dir: Path | None, threads: int, as_json: bool, **options: Any
) -> None:
    """Measure the run or bundle MODEL: bounds of -log p(x), KL, active units, sigma and more.

    MODEL is a run folder, or a version of a bundle (REPOSITORY/NAME/VERSION).
    """
    import torch

    from vaeserve_export.evaluation.evaluate import evaluate as measure
    from vaeserve_export.trained.open import open_subject

    torch.set_num_threads(threads)
    subject = open_subject(model)
    with _Progress() as progress:
        result = measure(subject, spec, data_dir=data_dir, progress=progress.show, **options)
    click.echo(json.dumps(result.to_json(), indent=2) if as_json else _table(result))
    if result.part == "validation" and not result.held_out:
        click.echo(
            f"warning: some of these rows may be among those that {result.model} was trained on: "
            "name a test part, or the run instead of its bundle, and the data it was trained on",
            err=True,
        )
    if result.trained_binarised not in {None, result.binarised}:
        pixels = {True: "pixels that are drawn", False: "grey levels"}
        click.echo(
            f"warning: {result.model} was trained on {pixels[not result.binarised]}, these figures "
            f"are of {pixels[result.binarised]}: they do not compare with those of its training; "
            f"{'leave out' if result.binarised else 'add'} --binarise",
            err=True,
        )


class _Progress(ExitStack):
    """A bar on a terminal, about ten lines elsewhere; both on stderr."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: ProgressBar[int] | None = None

    def show(self, done: int, rows: int) -> None:
        """Rows that are done, and rows in all; called once a row."""
        if not sys.stderr.isatty():
            if done % max(1, rows // _LINES) == 0:
                click.echo(f"{done}/{rows} rows", err=True)
            return
        if self._bar is None:
            self._bar = self.enter_context(
                click.progressbar(length=rows, label="rows", file=sys.stderr)
            )
        self._bar.update(1)


def _table(result: "Evaluation") -> str:
    found = result.statistics
    latent_dim = len(found.kl_per_dimension)
    drawn = ", pixels drawn once" if result.binarised else ""
    rows = [
        ("model", result.model),
        ("rows", f"{found.rows} of {result.data}, {result.part}{drawn}, seed {result.seed}"),
        ("-ELBO", f"{found.negative_elbo_nats:.2f} nats a row"),
        ("  reconstruction", f"{found.reconstruction_nats:.2f}"),
        ("    from mu", f"{found.reconstruction_at_mu_nats:.2f}"),
        ("  KL", f"{found.kl_nats:.2f}"),
    ]
    for bound in result.bounds:
        error = "" if math.isnan(bound.standard_error) else f" +- {bound.standard_error:.2f}"
        rows.append((f"-log p(x), K={bound.samples}", f"{bound.nats:.2f}{error}"))
    largest = sorted(found.kl_per_dimension, reverse=True)[:_LINES]
    spread = sorted(found.aggregated_variance)
    rows += [
        ("active units", f"{found.active_units} of {latent_dim}"),
        ("largest KLs", " ".join(f"{nats:.2f}" for nats in largest)),
        ("sigma", f"mean {found.mean_sigma:.3f}, median {found.median_sigma:.3f}"),
        ("  active", _active_sigma(found)),
        (
            "q(z) variance",
            f"{spread[0]:.2f} to {spread[-1]:.2f}, median {spread[len(spread) // 2]:.2f}",
        ),
        ("q(z) mean", f"at most {max(map(abs, found.aggregated_mean)):.2f} from 0"),
        ("I(x; z)", f"{found.mutual_information_nats:.2f} nats, by {found.pair_rows} rows"),
        ("KL(q(z)||p(z))", f"{found.marginal_kl_nats:.2f} nats"),
        (
            "log_var clamped",
            f"{found.clamped_low_share:.2%} below, {found.clamped_high_share:.2%} above",
        ),
        ("processor time", f"{result.cpu_seconds:.0f} s"),
    ]
    return "\n".join(f"{name:20}{value}" for name, value in rows)


def _active_sigma(found: "PosteriorStatistics") -> str:
    if not found.active_units:
        return "none"
    return f"mean {found.mean_sigma_active:.3f}, median {found.median_sigma_active:.3f}"
