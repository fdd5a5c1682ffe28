"""What the commands that call a server have in common: arguments, files in, files out."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np

from vaeserve import _files
from vaeserve._dial import connection_options
from vaeserve._latents import Array
from vaeserve._model import Model

_CommandT = TypeVar("_CommandT", bound=Callable[..., Any])


class OutFile(click.Path):
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


IN_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
PICTURES = OutFile(".png", ".npy", ".npz")


def calls_model(out: OutFile) -> Callable[[_CommandT], _CommandT]:
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


seed_option = click.option("--seed", type=click.IntRange(0, 2**64 - 1), help="Repeats a draw.")


def read_rows(handle: Model, path: Path) -> Array:
    """Latents with their id where a file holds such, else pictures."""
    if _files.holds_latents(path):
        return _files.read_latents(path)
    return _files.read_pictures(path, handle.info)


def dtype_for(out: Path) -> type[np.generic]:
    """A PNG holds levels; array files hold model values."""
    return np.uint8 if _files.suffix(out) == ".png" else np.float32


def write(out: Path, pictures: Array, **others: object) -> None:
    """Write pictures as a grid, or as arrays with what belongs to them."""
    if _files.suffix(out) == ".png":
        _files.write_grid(out, pictures)
    else:
        _files.write_arrays(out, {"x_hat": pictures, **others})
