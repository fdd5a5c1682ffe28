"""Commands that call a model: read files or a pipe, one SDK call, write the result."""

from typing import Any

import click

from vaeserve import _files
from vaeserve._calling import SourceFile, model_at, names_model, read_rows, tell_seed
from vaeserve._delivery import Delivery, delivers
from vaeserve._files import Source
from vaeserve._results import Generated
from vaeserve._seed import seed_or_new

_IN = SourceFile()
_pictures = delivers("png", "npy", "npz")
_sources = click.argument("sources", metavar="IN...", type=_IN, nargs=-1, required=True)
_seed = click.option("--seed", type=click.IntRange(0, 2**64 - 1), help="Repeats a draw.")


@click.command()
@names_model
@_sources
@delivers("npz")
@click.option("--draws", type=click.IntRange(0), default=0, help="Draws per row.")
@_seed
def encode(
    *,
    address: str,
    model: str | None,
    sources: tuple[Source, ...],
    to: Delivery,
    draws: int,
    seed: int | None,
) -> None:
    """Encode the pictures of IN (.png, .jpg, .npy, .npz, or -) to mu, log_var and draws."""
    with model_at(address, model) as handle:
        rows = _files.read_pictures(sources, handle.info)
        posterior = handle.encode(rows, draws=draws, seed=seed)
    to.write(
        {
            "mu": posterior.mu,
            "log_var": posterior.log_var,
            "draws": posterior.draws,
            "seed": posterior.seed,
            "latent_space_id": posterior.latent_space_id,
        }
    )
    tell_seed(posterior.seed, seed)


@click.command()
@names_model
@click.argument("source", metavar="IN", type=_IN)
@_pictures
def decode(*, address: str, model: str | None, source: Source, to: Delivery) -> None:
    """Decode the latents of IN (.npy, .npz as from encode and sample, or -) to pictures."""
    rows = _files.read_latents(source)
    with model_at(address, model) as handle:
        pictures = handle.decode(rows, dtype=to.dtype(handle.info))
    to.write({"x_hat": pictures})


@click.command()
@names_model
@_pictures
@click.option("-n", type=click.IntRange(1), default=16, show_default=True, help="Rows.")
@click.option("--temperature", type=click.FloatRange(0, 10), default=1.0, show_default=True)
@click.option(
    "--prior", type=click.Choice(["standard", "fitted"]), default="standard", show_default=True
)
@_seed
def sample(
    *,
    address: str,
    model: str | None,
    to: Delivery,
    n: int,
    temperature: float,
    prior: str,
    seed: int | None,
) -> None:
    """Draw pictures from the prior; a .png shows them as a grid."""
    with model_at(address, model) as handle:
        drawn = handle.sample(
            n,
            seed=seed,
            temperature=temperature,
            prior=prior,
            latents=to.holds_all,
            dtype=to.dtype(handle.info),
        )
    to.write(_parts(drawn))
    tell_seed(drawn.seed, seed)


@click.command()
@names_model
@_sources
@_pictures
@click.option("--draw", is_flag=True, help="Decode a draw instead of the posterior's mean.")
@_seed
def reconstruct(
    *,
    address: str,
    model: str | None,
    sources: tuple[Source, ...],
    to: Delivery,
    draw: bool,
    seed: int | None,
) -> None:
    """Encode and decode the pictures of IN (.png, .jpg, .npy, .npz, or -)."""
    with model_at(address, model) as handle:
        rows = _files.read_pictures(sources, handle.info)
        used = seed_or_new(seed) if draw else None
        pictures = handle.reconstruct(rows, draw=draw, seed=used, dtype=to.dtype(handle.info))
    to.write({"x_hat": pictures, "seed": used})
    tell_seed(used, seed)


@click.command()
@names_model
@click.argument("first", metavar="A", type=_IN)
@click.argument("last", metavar="B", type=_IN)
@_pictures
@click.option("--steps", type=click.IntRange(2), default=8, show_default=True, help="Points.")
@click.option("--path", type=click.Choice(["lerp", "slerp"]), default="lerp", show_default=True)
def interpolate(
    *,
    address: str,
    model: str | None,
    first: Source,
    last: Source,
    to: Delivery,
    steps: int,
    path: str,
) -> None:
    """Walk through latent space from A to B: pictures, or .npz latents as from encode.

    A .png shows each walk as a line.
    """
    with model_at(address, model) as handle:
        start, end = read_rows(handle, first), read_rows(handle, last)
        walk = handle.interpolate(
            start,
            end,
            steps=steps,
            path=path,
            latents=to.holds_all,
            dtype=to.dtype(handle.info),
        )
        tiles = walk.pictures.reshape(-1, *handle.info.input_shape)
    parts = _parts(walk)
    to.write(parts | {"x_hat": tiles} if to.kind == "png" else parts, columns=steps)


def _parts(generated: Generated) -> dict[str, Any]:
    return {
        "x_hat": generated.pictures,
        "latents": generated.latents,
        "seed": generated.seed,
        "latent_space_id": generated.latent_space_id,
    }
