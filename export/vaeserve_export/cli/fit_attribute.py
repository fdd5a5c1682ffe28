"""The command `fit-attribute`."""

# Heavy imports belong to the command that needs them.
# ruff: noqa: PLC0415

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vaeserve_export.cli.command import FOLDER, SEED, Command
from vaeserve_export.cli.data_options import data_options
from vaeserve_export.cli.fitting import seed_of, tell
from vaeserve_export.errors import LatentError

if TYPE_CHECKING:
    from vaeserve_export.data.dataset import Dataset
    from vaeserve_export.latent.attribute import AttributeFit
    from vaeserve_export.latent.directions import Labels

_FILE = click.Path(dir_okay=False, path_type=Path)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@click.command(cls=Command)
@click.argument("model", type=FOLDER)
@click.argument("name")
@data_options()
@click.option("--labels", type=_FILE, help=".npy or .csv: 1 for each row with it, 0 without.")
@click.option("--positive", type=int, help="Or: the class, of the data's own, that has it.")
@click.option("--balance", type=_FILE, help=".npy or .csv: a labelling that must not matter.")
@click.option(
    "--method",
    type=click.Choice(["auto", "mean-difference", "balanced", "logistic"]),
    default="auto",
    show_default=True,
    help="How.",
)
@click.option("--project-out", multiple=True, metavar="NAME", help="Attribute to leave alone.")
@click.option("--seed", type=SEED, help="As that of the training by default.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def fit_attribute(
    model: Path,
    name: str,
    *,
    spec: str,
    data_dir: Path | None,
    labels: Path | None,
    positive: int | None,
    balance: Path | None,
    method: str,
    project_out: tuple[str, ...],
    seed: int | None,
    as_json: bool,
) -> None:
    """Fit the direction NAME in the latent space of MODEL, for Edit.

    MODEL is a run, which keeps it for `export`, or a bundle's version folder, of which the next
    version is written. An attribute of that name is replaced.
    """
    import torch

    from vaeserve_export.bundling.keep import keep
    from vaeserve_export.latent.attribute import Other, fit_attribute as fit
    from vaeserve_export.latent.fitted import read_fitted
    from vaeserve_export.latent.labels import read_labels
    from vaeserve_export.trained.open import open_subject
    from vaeserve_export.trained.rows import load_rows

    if not _NAME.fullmatch(name):
        raise LatentError(f"attribute name {name!r}: use letters, digits, dot, dash, underscore")
    if (labels is None) == (positive is None):
        raise click.UsageError("give --labels or --positive")
    torch.set_num_threads(1)  # the last bits depend on their number
    subject = open_subject(model)
    before = read_fitted(model)
    data = load_rows(subject, spec, data_dir=data_dir)
    wanted = read_labels(labels, data) if labels else _of_class(data, positive)
    other = Other(balance.stem, read_labels(balance, data)) if balance else None
    result = fit(
        subject,
        data.joined.x,
        wanted,
        name=name,
        method=method,
        balance=other,
        project_out=before.some(project_out),
        reporting=len(data.validation.x) if data.validation else 0,
        seed=seed_of(subject, data, seed),
    )
    tell(keep(model, before.with_attribute(result)), result, _text(result), as_json=as_json)


def _of_class(data: "Dataset", positive: int | None) -> "Labels":
    found = data.joined.labels
    if found is None:
        part = "its rows for validation have" if data.labels is not None else "has"
        raise LatentError(f"{data.name}: {part} no labels of their own; give --labels")
    if positive not in found:
        raise LatentError(f"{data.name}: no row is of class {positive}")
    labels: Labels = (found == positive).astype("int64")
    return labels


def _text(fit: "AttributeFit") -> str:
    entry = fit.entry
    note = f"\n{entry.note}" if entry.note else ""
    return (
        f"{entry.name}: {entry.method}, AUC {entry.auc:.4f} on held-out rows, fitted to "
        f"{entry.positives} rows with it and {entry.negatives} without{note}"
    )
