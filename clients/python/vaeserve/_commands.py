"""Commands that call a server: read files, one SDK call, write files."""

import json
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


@click.command()
@click.argument("address")
@connection_options
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def models(*, address: str, as_json: bool) -> None:
    """List the models of the server at ADDRESS (host:port)."""
    with client_at(address) as client:
        states = client.models()
    if as_json:
        fields = ("name", "version", "ready", "problem")
        click.echo(json.dumps([{key: getattr(state, key) for key in fields} for state in states]))
        return
    width = max([len("MODEL"), *(len(state.name) for state in states)])
    click.echo(f"{'MODEL':{width}}  VERSION  READY  PROBLEM")
    for state in states:
        version, ready = state.version or "-", "yes" if state.ready else "no"
        click.echo(f"{state.name:{width}}  {version:>7}  {ready:5}  {state.problem}".rstrip())


@click.command()
@calls_model(OutFile(".npz"))
@click.argument("source", metavar="IN", type=IN_FILE)
@click.option("--draws", type=click.IntRange(0), default=0, help="Draws per row.")
@seed_option
def encode(
    *, address: str, model: str, source: Path, out: Path, draws: int, seed: int | None
) -> None:
    """Encode the pictures of IN (.png, .npy, .npz) to mu, log_var and draws."""
    with client_at(address) as client:
        handle = client.model(model)
        rows = _files.read_pictures(source, handle.info)
        posterior = handle.encode(rows, draws=draws, seed=seed)
    _files.write_arrays(
        out,
        {
            "mu": posterior.mu,
            "log_var": posterior.log_var,
            "draws": posterior.draws,
            "seed": posterior.seed,
            "latent_space_id": posterior.latent_space_id,
        },
    )


@click.command()
@calls_model(PICTURES)
@click.argument("source", metavar="IN", type=IN_FILE)
def decode(*, address: str, model: str, source: Path, out: Path) -> None:
    """Decode the latents of IN (.npy, or .npz as from encode and sample) to pictures."""
    rows = _files.read_latents(source)
    with client_at(address) as client:
        pictures = client.model(model).decode(rows, dtype=dtype_for(out))
    write(out, pictures)


@click.command()
@calls_model(PICTURES)
@click.option("-n", type=click.IntRange(1), default=16, show_default=True, help="Rows.")
@click.option("--temperature", type=click.FloatRange(0, 10), default=1.0, show_default=True)
@click.option(
    "--prior",
    type=click.Choice(["standard", "fitted"]),
    default="standard",
    show_default=True,
    help="N(0, I), or the mixture fitted to the posterior.",
)
@seed_option
def sample(
    *,
    address: str,
    model: str,
    out: Path,
    n: int,
    temperature: float,
    prior: str,
    seed: int | None,
) -> None:
    """Draw pictures from the prior."""
    with client_at(address) as client:
        drawn = client.model(model).sample(
            n,
            seed=seed,
            temperature=temperature,
            prior=prior,
            latents=_files.suffix(out) == ".npz",
            dtype=dtype_for(out),
        )
    write(
        out,
        drawn.pictures,
        latents=drawn.latents,
        seed=drawn.seed,
        latent_space_id=drawn.latent_space_id,
    )
    if seed is None:
        click.echo(f"seed {drawn.seed}", err=True)


@click.command()
@calls_model(PICTURES)
@click.argument("source", metavar="IN", type=IN_FILE)
@click.option("--draw", is_flag=True, help="Decode a draw instead of the posterior's mean.")
@seed_option
def reconstruct(
    *, address: str, model: str, source: Path, out: Path, draw: bool, seed: int | None
) -> None:
    """Encode and decode the pictures of IN (.png, .npy, .npz)."""
    with client_at(address) as client:
        handle = client.model(model)
        rows = _files.read_pictures(source, handle.info)
        pictures = handle.reconstruct(rows, draw=draw, seed=seed, dtype=dtype_for(out))
    write(out, pictures)


@click.command()
@calls_model(PICTURES)
@click.argument("first", metavar="A", type=IN_FILE)
@click.argument("last", metavar="B", type=IN_FILE)
@click.option("--steps", type=click.IntRange(2), default=8, show_default=True, help="Points.")
@click.option("--path", type=click.Choice(["lerp", "slerp"]), default="lerp", show_default=True)
def interpolate(
    *, address: str, model: str, first: Path, last: Path, out: Path, steps: int, path: str
) -> None:
    """Walk through latent space from A to B: pictures, or .npz latents as from encode."""
    with client_at(address) as client:
        handle = client.model(model)
        start, end = read_rows(handle, first), read_rows(handle, last)
        walk = handle.interpolate(
            start,
            end,
            steps=steps,
            path=path,
            latents=_files.suffix(out) == ".npz",
            dtype=dtype_for(out),
        )
    if _files.suffix(out) == ".png":
        tiles = walk.pictures.reshape(-1, *handle.info.input_shape)
        _files.write_grid(out, tiles, columns=steps)
    else:
        write(out, walk.pictures, latents=walk.latents, latent_space_id=walk.latent_space_id)
