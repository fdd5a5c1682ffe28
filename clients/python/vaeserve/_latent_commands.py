"""Commands on what a model knows: attributes that are given and taken, and scores."""

import click

from vaeserve import _files
from vaeserve._calling import SourceFile, known, model_at, names_model, read_rows, tell_seed
from vaeserve._delivery import Delivery, delivers
from vaeserve._errors import InvalidInput
from vaeserve._files import Source
from vaeserve._latents import Array
from vaeserve._results import Score
from vaeserve._table import laid_out
from vaeserve._writers import write_text

_IN = SourceFile()


def _read_amounts(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, float]:
    """Read NAME=AMOUNT, split at the last sign of equality: names may hold others."""
    amounts = {}
    for value in values:
        name, _, amount = value.rpartition("=")
        try:
            amounts[name] = float(amount)
        except ValueError:
            name = ""
        if not name:
            raise click.BadParameter(f"{value!r} is not of the form smile=1.5", ctx, param)
    if len(amounts) < len(values):
        raise click.BadParameter("an attribute is named twice", ctx, param)
    return amounts


@click.command()
@names_model
@click.argument("source", metavar="IN", type=_IN)
@click.argument(
    "amounts", metavar="NAME=AMOUNT...", callback=_read_amounts, nargs=-1, required=True
)
@delivers("png", "npy", "npz")
@click.option("--preserve", metavar="NAME", multiple=True, help="Keeps an attribute; repeatable.")
def edit(
    *,
    address: str,
    model: str | None,
    source: Source,
    amounts: dict[str, float],
    to: Delivery,
    preserve: tuple[str, ...],
) -> None:
    """Move the rows of IN along attributes: pictures, or .npz latents as from encode.

    smile=1.5 gives a smile and more, smile=-1 takes it away.
    """
    with model_at(address, model) as handle:
        names = [attribute.name for attribute in handle.info.attributes]
        if not names:
            raise InvalidInput(f"{handle.name!r} was exported without attributes")
        for name in (*amounts, *preserve):
            known("attribute", name, names)
        edited = handle.edit(
            read_rows(handle, source),
            amounts,
            preserve=preserve,
            latents=to.holds_all,
            dtype=to.dtype(handle.info),
        )
    to.write(
        {
            "x_hat": edited.pictures,
            "latents": edited.latents,
            "latent_space_id": edited.latent_space_id,
        }
    )


@click.command()
@names_model
@click.argument("sources", metavar="IN...", type=_IN, nargs=-1, required=True)
@delivers("npz", "csv", shown=True)
@click.option("--draws", type=click.IntRange(0), default=0, help="Posterior draws per row.")
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), help="Repeats the draws.")
def score(
    *,
    address: str,
    model: str | None,
    sources: tuple[Source, ...],
    to: Delivery | None,
    draws: int,
    seed: int | None,
) -> None:
    """Say how well the model knows the pictures of IN, in nats; a table without -o and --json."""
    with model_at(address, model) as handle:
        rows = _files.read_pictures(sources, handle.info)
        scores = handle.score(rows, draws=draws, seed=seed)
    if to:
        to.write(_columns(scores) | {"seed": scores.seed})
    else:
        write_text(None, f"{_table(scores)}\n")
    tell_seed(scores.seed, seed)


def _columns(scores: Score) -> dict[str, Array | None]:
    names = ("negative_elbo", "reconstruction", "kl", "importance_weighted")
    return {name: getattr(scores, name) for name in (*names, "percentile", "typicality")}


def _table(scores: Score) -> str:
    columns = {"ROW": [str(row) for row in range(len(scores))]}
    for name, values in _columns(scores).items():
        digits = 3 if name == "typicality" else 2
        if values is not None:
            heading = name.replace("negative_elbo", "-ELBO").replace("_", " ").upper()
            columns[heading] = [f"{value:.{digits}f}" for value in values]
    return laid_out(tuple(columns), list(zip(*columns.values(), strict=True)), tuple(columns))
