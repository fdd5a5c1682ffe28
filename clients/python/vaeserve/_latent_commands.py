"""Commands on a model's latent toolkit: read files, one SDK call, write files."""

from pathlib import Path

import click

from vaeserve import _files
from vaeserve._dial import client_at, connection_options
from vaeserve._options import (
    IN_FILE,
    PICTURES,
    OutFile,
    calls_model,
    dtype_for,
    read_rows,
    seed_option,
    write,
)

_SCORES = (
    "reconstruction",
    "kl",
    "negative_elbo",
    "importance_weighted",
    "percentile",
    "typicality",
)


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
    return amounts


@click.command()
@calls_model(PICTURES)
@click.argument("source", metavar="IN", type=IN_FILE)
@click.argument(
    "amounts", metavar="NAME=AMOUNT...", callback=_read_amounts, nargs=-1, required=True
)
@click.option("--preserve", metavar="NAME", multiple=True, help="Keeps an attribute; repeatable.")
def edit(
    *,
    address: str,
    model: str,
    source: Path,
    out: Path,
    amounts: dict[str, float],
    preserve: tuple[str, ...],
) -> None:
    """Move the rows of IN along attributes: pictures, or .npz latents as from encode.

    smile=1.5 gives a smile and more, smile=-1 takes it away.
    """
    with client_at(address) as client:
        handle = client.model(model)
        edited = handle.edit(
            read_rows(handle, source),
            amounts,
            preserve=preserve,
            latents=_files.suffix(out) == ".npz",
            dtype=dtype_for(out),
        )
    write(out, edited.pictures, latents=edited.latents, latent_space_id=edited.latent_space_id)


@click.command()
@click.argument("address")
@connection_options
@click.option("--model", required=True, help="Name of the model.")
@click.option("-o", "--out", type=OutFile(".npz"), help="Where every row's scores go.")
@click.argument("source", metavar="IN", type=IN_FILE)
@click.option("--draws", type=click.IntRange(0), default=0, help="Posterior draws per row.")
@seed_option
def score(
    *, address: str, model: str, source: Path, out: Path | None, draws: int, seed: int | None
) -> None:
    """Say how well the model knows the pictures of IN (.png, .npy, .npz): one line a row."""
    with client_at(address) as client:
        handle = client.model(model)
        scored = handle.score(_files.read_pictures(source, handle.info), draws=draws, seed=seed)
    columns = {name: getattr(scored, name) for name in _SCORES}
    known = {name: values for name, values in columns.items() if values is not None}
    if out is not None:
        _files.write_arrays(out, {**known, "seed": scored.seed})
        return
    click.echo("\t".join(("row", *known)))
    for row, values in enumerate(zip(*known.values(), strict=True)):
        click.echo("\t".join((str(row), *(f"{value:.6g}" for value in values))))
