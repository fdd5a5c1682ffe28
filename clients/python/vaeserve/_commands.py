"""Commands that call a server: read files, one SDK call, write files."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np

from vaeserve import _files
from vaeserve._client import Model
from vaeserve._dial import client_at, connection_options
from vaeserve._results import Array

_CommandT = TypeVar("_CommandT", bound=Callable[..., Any])


class _OutFile(click.Path):
    """A path whose suffix says in which form the result is written."""

    def __init__(self, *suffixes: str) -> None:
        super().__init__(dir_okay=False, writable=True, path_type=Path)
        self._suffixes = suffixes

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse a wrong suffix before anything is sent."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if not path.parent.is_dir():
            self.fail(f"the folder {str(path.parent)!r} does not exist", param, ctx)
        if _files.suffix(path) not in self._suffixes:
            self.fail(f"{str(path)!r} must end in {', '.join(self._suffixes)}", param, ctx)
        return path


_IN_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_PICTURES = _OutFile(".png", ".npy", ".npz")


def _calls_model(out: _OutFile) -> Callable[[_CommandT], _CommandT]:
    """ADDRESS --model M ... -o OUT, as every command here takes them."""

    def decorate(command: _CommandT) -> _CommandT:
        command = click.option(
            "-o",
            "--out",
            type=out,
            required=True,
            help="Where the result goes; the suffix decides.",
        )(command)
        command = click.option("--model", required=True, help="Name of the model.")(command)
        return click.argument("address")(connection_options(command))

    return decorate


_seed = click.option("--seed", type=click.IntRange(0, 2**64 - 1), help="Repeats a draw.")


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
@_calls_model(_OutFile(".npz"))
@click.argument("source", metavar="IN", type=_IN_FILE)
@click.option("--draws", type=click.IntRange(0), default=0, help="Draws per row.")
@_seed
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
@_calls_model(_PICTURES)
@click.argument("source", metavar="IN", type=_IN_FILE)
def decode(*, address: str, model: str, source: Path, out: Path) -> None:
    """Decode the latents of IN (.npy, or .npz as from encode and sample) to pictures."""
    rows = _files.read_latents(source)
    with client_at(address) as client:
        pictures = client.model(model).decode(rows, dtype=_dtype(out))
    _write(out, pictures)


@click.command()
@_calls_model(_PICTURES)
@click.option("-n", type=click.IntRange(1), default=16, show_default=True, help="Rows.")
@click.option("--temperature", type=click.FloatRange(0, 10), default=1.0, show_default=True)
@_seed
def sample(
    *, address: str, model: str, out: Path, n: int, temperature: float, seed: int | None
) -> None:
    """Draw pictures from the prior."""
    with client_at(address) as client:
        drawn = client.model(model).sample(
            n,
            seed=seed,
            temperature=temperature,
            latents=_files.suffix(out) == ".npz",
            dtype=_dtype(out),
        )
    _write(
        out,
        drawn.pictures,
        latents=drawn.latents,
        seed=drawn.seed,
        latent_space_id=drawn.latent_space_id,
    )
    if seed is None:
        click.echo(f"seed {drawn.seed}", err=True)


@click.command()
@_calls_model(_PICTURES)
@click.argument("source", metavar="IN", type=_IN_FILE)
@click.option("--draw", is_flag=True, help="Decode a draw instead of the posterior's mean.")
@_seed
def reconstruct(
    *, address: str, model: str, source: Path, out: Path, draw: bool, seed: int | None
) -> None:
    """Encode and decode the pictures of IN (.png, .npy, .npz)."""
    with client_at(address) as client:
        handle = client.model(model)
        rows = _files.read_pictures(source, handle.info)
        pictures = handle.reconstruct(rows, draw=draw, seed=seed, dtype=_dtype(out))
    _write(out, pictures)


@click.command()
@_calls_model(_PICTURES)
@click.argument("first", metavar="A", type=_IN_FILE)
@click.argument("last", metavar="B", type=_IN_FILE)
@click.option("--steps", type=click.IntRange(2), default=8, show_default=True, help="Points.")
@click.option("--path", type=click.Choice(["lerp", "slerp"]), default="lerp", show_default=True)
def interpolate(
    *, address: str, model: str, first: Path, last: Path, out: Path, steps: int, path: str
) -> None:
    """Walk through latent space from A to B: pictures, or .npz latents as from encode."""
    with client_at(address) as client:
        handle = client.model(model)
        start, end = _end(handle, first), _end(handle, last)
        walk = handle.interpolate(
            start,
            end,
            steps=steps,
            path=path,
            latents=_files.suffix(out) == ".npz",
            dtype=_dtype(out),
        )
    if _files.suffix(out) == ".png":
        tiles = walk.pictures.reshape(-1, *handle.info.input_shape)
        _files.write_grid(out, tiles, columns=steps)
    else:
        _write(out, walk.pictures, latents=walk.latents, latent_space_id=walk.latent_space_id)


def _end(handle: Model, path: Path) -> Array:
    if _files.holds_latents(path):
        return _files.read_latents(path)
    return _files.read_pictures(path, handle.info)


def _dtype(out: Path) -> type[np.generic]:
    """A PNG holds levels; array files hold model values."""
    return np.uint8 if _files.suffix(out) == ".png" else np.float32


def _write(out: Path, pictures: Array, **others: object) -> None:
    if _files.suffix(out) == ".png":
        _files.write_grid(out, pictures)
    else:
        _files.write_arrays(out, {"x_hat": pictures, **others})
