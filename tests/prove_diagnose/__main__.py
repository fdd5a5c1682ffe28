"""`make prove-diagnose`: the losses that people get wrong are named, and the right one is not.

One net is trained with each loss, for less than a minute of processor time. A sum that became a
mean multiplies a term by a constant, so beta = 1 / latent_dim is the loss whose KL is averaged, and
beta = elements the one whose reconstruction is. The run is then made to say that beta was 1, and
its log is emptied, so that nothing but the model can tell.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import click
import torch

from vaeserve_export.data.dataset import Dataset, load
from vaeserve_export.errors import DataError
from vaeserve_export.evaluation.diagnosis import Diagnosis, diagnose
from vaeserve_export.trained.open import open_subject
from vaeserve_export.training.run import CONFIG, METRICS
from vaeserve_export.training.settings import TrainSettings
from vaeserve_export.training.train import train

SEEDS = range(5)
LATENT_DIM = 50
_SETTINGS = TrainSettings(
    layers=2,
    hidden=200,
    activation="tanh",
    latent_dim=LATENT_DIM,
    batch_size=100,
    schedule="cosine",
    binarise=True,
    threads=1,
    device="cpu",
)
_EPOCHS = {"fashion-mnist": 10, "digits": 150}


@dataclass(frozen=True)
class Loss:
    """A loss to train with.

    Attributes:
        title: in the table.
        beta: that it comes to.
        seeds: to train with.
        named: the fault to be named, or None.
    """

    title: str
    beta: float
    seeds: tuple[int, ...]
    named: str | None


def losses(elements: int) -> list[Loss]:
    """The losses, for rows of so many elements."""
    return [
        Loss("KL mean over latents", 1 / LATENT_DIM, (0,), "kl_averaged"),
        Loss("BCE mean over pixels", elements, (0,), "reconstruction_averaged"),
        Loss("KL weight 0", 0, (0,), "plain_autoencoder"),
        Loss("sound", 1, tuple(SEEDS), None),
    ]


@click.command(context_settings={"show_default": True})
@click.option("--data-dir", type=click.Path(path_type=Path), default="../shared/data")
@click.option("--home", type=click.Path(path_type=Path), default=".prove-diagnose", help="Runs.")
def main(data_dir: Path, home: Path) -> None:
    """Train, diagnose, and print the table of docs/diagnose.md; fails unless every bar is met."""
    name = "fashion-mnist"
    try:
        data = load(name, data_dir=data_dir)
    except DataError as error:
        click.echo(f"{error}; taking digits", err=True)
        name = "digits"
        data = load(name)
    torch.set_num_threads(1)
    failed = False
    click.echo(
        "| loss | seed | CPU s | rec | KL | -ELBO | active | sigma | KL weight | named | |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|"
    )
    for loss in losses(data.x[0].size):
        for seed in loss.seeds:
            run = home / f"{name}-{loss.title.replace(' ', '-')}-{seed}"
            seconds = _trained(run, loss, seed, data, _EPOCHS[name])
            (found,) = diagnose([open_subject(run)], data_dir=data_dir)
            names = [fault.name for fault in found.faults]
            right = names == ([loss.named] if loss.named else [])
            failed |= not right
            click.echo(_line(loss, seed, seconds, found, right=right))
    if failed:
        raise click.ClickException("a fault was not named, or one was named that is none")


def _trained(run: Path, loss: Loss, seed: int, data: Dataset, epochs: int) -> float:
    """Train unless the run is there; the processor time it took."""
    summary = run / "summary.json"
    if not summary.exists():
        settings = replace(_SETTINGS, epochs=epochs, beta=loss.beta, seed=seed)
        train(settings, data, run)
        config = json.loads((run / CONFIG).read_text())
        config["settings"]["beta"] = 1.0
        (run / CONFIG).write_text(json.dumps(config))
        (run / METRICS).write_bytes(b"")
    return float(json.loads(summary.read_text())["cpu_seconds"])


def _line(loss: Loss, seed: int, seconds: float, found: Diagnosis, *, right: bool) -> str:
    v, weight = found.evidence.validation.statistics, found.evidence.kl_weight
    cells = [
        loss.title,
        str(seed),
        f"{seconds:.0f}",
        f"{v.reconstruction_nats:.1f}",
        f"{v.kl_nats:.1f}",
        f"{v.negative_elbo_nats:.1f}",
        f"{v.active_units}/{LATENT_DIM}",
        f"{v.median_sigma_active if v.active_units else v.median_sigma:.3g}",
        str(weight) if weight else "nothing to weigh",
        ", ".join(fault.name for fault in found.faults) or "none",
        "met" if right else "**missed**",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
