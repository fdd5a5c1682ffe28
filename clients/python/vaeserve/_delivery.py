"""Where a command's result goes: a file or a pipe in one of several forms, or JSON."""

import functools
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np

from vaeserve import _files, _writers
from vaeserve._errors import InvalidInput
from vaeserve._info import ModelInfo
from vaeserve._pixels import pixel_dtype, pixels_of

_CommandT = TypeVar("_CommandT", bound=Callable[..., Any])
_PIPE = "-"  # as typed: a Path of ./- is the same as one of -


@dataclass(frozen=True, slots=True)
class Delivery:
    """Where a result goes and in which form.

    Attributes:
        path: the file; None for standard output.
        kind: "png", "npy", "npz", "csv" or "json".
        columns: pictures side by side in a PNG; None for the command's own choice.
    """

    path: Path | None
    kind: str
    columns: int | None = None

    def dtype(self, info: ModelInfo) -> type[np.generic]:
        """A PNG holds pixels; everything else holds model values.

        Raises:
            InvalidInput: the form is PNG, and the model's rows are no pictures.
        """
        if self.kind != "png":
            return np.float32
        if info.preprocessing is None:
            raise InvalidInput(
                f"the rows of {info.name!r} are no pictures: write them to a .npy or .npz, "
                "or pipe them with --format npy"
            )
        return pixel_dtype(info)

    @property
    def holds_all(self) -> bool:
        """Whether there is room for more than the pictures, such as the latents."""
        return self.kind in {"npz", "json"}

    def write(self, result: Mapping[str, Any], columns: int | None = None) -> None:
        """Write the result.

        Args:
            result: arrays and facts by name, the one that matters most first; None is left out.
            columns: the command's own choice for a PNG; None for a nearly square grid.

        Raises:
            InvalidInput: it is no picture and the form is PNG, or the file cannot be written.
        """
        if self.kind == "json":
            _writers.write_text(None, json.dumps({k: _plain(v) for k, v in result.items()}) + "\n")
        elif self.kind == "csv":
            _writers.write_csv(self.path, {key: _plain(value) for key, value in result.items()})
        elif self.kind == "png":
            first = next(iter(result.values()))
            _writers.write_grid(self.path, pixels_of(first), self.columns or columns)
        else:
            _writers.write_arrays(self.path, self.kind, result)


def delivers(*kinds: str, shown: bool = False) -> Callable[[_CommandT], _CommandT]:
    """Give a command -o, --format and --json, and what they come to as the argument `to`.

    Args:
        kinds: forms the result can take, the one for a pipe first.
        shown: the command can show its result itself: `to` is None where none of the three is
            given, which is refused otherwise.
    """
    suffixes = ", ".join(f".{kind}" for kind in kinds)
    options = [
        click.option(
            "-o",
            "--out",
            type=click.Path(dir_okay=False, writable=True, allow_dash=True, path_type=str),
            help=f"Where the result goes: a file ({suffixes}), or - for standard output.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print JSON instead."),
    ]
    if len(kinds) > 1:
        options[1:1] = [
            click.option(
                "--format",
                "kind",
                type=click.Choice(kinds),
                help=f"Form of the result where no suffix tells; {kinds[0]} for a pipe.",
            ),
        ]
    if "png" in kinds:
        options.append(
            click.option(
                "--columns",
                type=click.IntRange(1),
                help="Pictures side by side in a .png; a nearly square grid without.",
            )
        )

    def decorate(command: _CommandT) -> _CommandT:
        @functools.wraps(command)
        def run(
            *,
            out: str | None,
            as_json: bool,
            kind: str | None = None,
            columns: int | None = None,
            **rest: Any,
        ) -> Any:
            if shown and not (out or as_json or kind):
                return command(to=None, **rest)
            return command(to=_delivery(out, kind, columns, kinds, as_json=as_json), **rest)

        decorated: Any = run
        for option in reversed(options):
            decorated = option(decorated)
        result: _CommandT = decorated
        return result

    return decorate


def _delivery(
    out: str | None,
    kind: str | None,
    columns: int | None,
    kinds: tuple[str, ...],
    *,
    as_json: bool,
) -> Delivery:
    """Refuse what cannot be written before anything is sent."""
    if as_json:
        if out or kind or columns:
            raise click.UsageError("--json prints the result: leave -o, --format and --columns out")
        return Delivery(None, "json")
    if out is None and kind == "csv":
        out = _PIPE  # a table can be read where it comes out
    if out is None:
        raise click.UsageError("Say where the result goes: -o FILE, -o - for a pipe, or --json.")
    if out == _PIPE:
        kind = kind or kinds[0]
        if kind != "csv" and sys.stdout and sys.stdout.isatty():
            raise click.UsageError("-o - writes bytes, which a terminal cannot show: add | or >")
        return _laid_out(None, kind, columns)
    path = Path(out)
    if not path.parent.is_dir():
        raise click.UsageError(f"the folder {str(path.parent)!r} does not exist")
    kind = kind or _files.kind_of(path)
    if kind not in kinds:
        suffixes = ", ".join(f".{each}" for each in kinds)
        otherwise = ", or give --format" if len(kinds) > 1 else ""
        raise click.UsageError(f"{str(path)!r} must end in {suffixes}{otherwise}")
    return _laid_out(path, kind, columns)


def _laid_out(path: Path | None, kind: str, columns: int | None) -> Delivery:
    if columns and kind != "png":
        raise click.UsageError("--columns lays out a .png, and this is none: leave it out")
    return Delivery(path, kind, columns)


def _plain(value: Any) -> Any:
    """What JSON and CSV can hold; float32 with as few digits as tell it apart."""
    if isinstance(value, np.ndarray):
        array = np.asarray(value)
        return (
            array.astype(str).astype(np.float64).tolist()
            if array.dtype.kind == "f"
            else (array.tolist())
        )
    return value
