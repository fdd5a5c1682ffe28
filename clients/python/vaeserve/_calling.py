"""What the commands share that call a server: ADDRESS, --model, IN, and errors that help."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from vaeserve import _files
from vaeserve._dial import client_at, connection_options, known_models, model_option, only_model
from vaeserve._errors import InvalidInput, NotFound
from vaeserve._files import Source
from vaeserve._latents import Array, Latents
from vaeserve._model import Model
from vaeserve._suggest import did_you_mean

_CommandT = TypeVar("_CommandT", bound=Callable[..., Any])
_PIPE = "-"  # as typed: a Path of ./- is the same as one of -
_PIPE_READ = "vaeserve.standard_input_read"  # in a context's meta


class SourceFile(click.Path):
    """A file to read, or - for standard input."""

    def __init__(self) -> None:
        super().__init__(exists=True, dir_okay=False, allow_dash=True, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Take a file by name, and a pipe's bytes as they are."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if ctx and ctx.resilient_parsing:  # a shell that completes must not wait for a pipe
            return None
        if os.fsdecode(value) == _PIPE:
            if sys.stdin is None:
                self.fail("standard input is closed", param, ctx)
            if ctx:
                if ctx.meta.get(_PIPE_READ):
                    self.fail("only one IN can be -; give another as a file or <(...)", param, ctx)
                ctx.meta[_PIPE_READ] = True
            return Source.of_bytes("standard input", sys.stdin.buffer.read())
        try:
            return Source.of_path(path)
        except OSError as exc:
            self.fail(f"{str(path)!r} cannot be read: {exc.strerror or exc}", param, ctx)


def names_model(command: _CommandT) -> _CommandT:
    """ADDRESS and --model, as every command takes them that calls a model."""
    return click.argument("address")(connection_options(model_option(command)))


@contextmanager
def model_at(address: str, name: str | None) -> Iterator[Model]:
    """Connect, and tell the nearest names where the model does not exist.

    Args:
        address: the server.
        name: name of the model; None for the only one.

    Raises:
        VaeserveError: as the calls inside; NotFound names the nearest model.
        click.UsageError: no name was given and the server has not just one model.
    """
    with client_at(address) as client:
        try:
            yield client.model(name or only_model(client))
        except NotFound as exc:
            if exc.reason != "MODEL_NOT_FOUND" or name is None:
                raise
            hint = did_you_mean(name, known_models(client))
            raise NotFound(f"{exc.details}.{hint}", code=exc.code, reason=exc.reason) from exc


def read_rows(handle: Model, source: Source) -> Array:
    """Latents where the file says so by their id, or the rows by their shape; else pictures.

    Raises:
        InvalidInput: as `_files.read_latents` and `_files.read_pictures`.
    """
    if _files.holds_latents(source):
        return _files.read_latents(source)
    info = handle.info
    rows = _files.read_pictures((source,), info)
    shapes = (rows.shape, rows.shape[1:])
    if info.latent_shape in shapes and info.input_shape not in shapes:
        return Latents(rows, "")
    return rows


def tell_seed(used: int | None, given: int | None) -> None:
    """Print the seed that was drawn with where the caller did not choose it.

    Args:
        used: by the call; None where it drew nothing.
        given: by the caller.
    """
    if given is None and used is not None:
        click.echo(f"seed {used}", err=True)


def known(kind: str, name: str, names: Iterable[str]) -> str:
    """The name, if there is one such.

    Raises:
        InvalidInput: there is none; the nearest are told.
    """
    names = tuple(names)
    if name not in names:
        raise InvalidInput(f"there is no {kind} {name!r}.{did_you_mean(name, names)}")
    return name
