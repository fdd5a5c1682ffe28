"""Arrays to .npy, .npz, .png and .csv, and text: files and standard output."""

import csv
import errno
import io
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import ceil, sqrt
from pathlib import Path
from typing import IO, Any

import numpy as np

from vaeserve._errors import InvalidInput
from vaeserve._foreign import MODES
from vaeserve._latents import Array

_GAP = 2  # pixels between the pictures of a grid

# A folder that is another's, and a file that a container was given by itself.
_OVERWRITTEN = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY}


def write_arrays(path: Path | None, kind: str, arrays: Mapping[str, Any]) -> None:
    """Write npz with every array that is not None, or npy with the first one.

    Args:
        path: the file; None for standard output.
        kind: "npz" or "npy".
        arrays: by name.

    Raises:
        InvalidInput: it cannot be written.
    """
    with _writing(path) as file:
        if kind == "npz":
            np.savez(file, **{name: value for name, value in arrays.items() if value is not None})
        else:
            np.save(file, np.asarray(next(iter(arrays.values()))))


def write_csv(path: Path | None, columns: Mapping[str, Any]) -> None:
    """Write a heading and a line a row; what is no list stands in each line.

    Args:
        path: the file; None for standard output.
        columns: lists of one length, or one value for all rows, by name; None is left out.

    Raises:
        InvalidInput: it cannot be written.
    """
    given = {name: value for name, value in columns.items() if value is not None}
    rows = max(len(value) for value in given.values() if isinstance(value, list))
    filled = [value if isinstance(value, list) else [value] * rows for value in given.values()]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(given)
    table.writerows(zip(*filled, strict=True))
    write_text(path, text.getvalue())


def write_text(path: Path | None, text: str) -> None:
    """Write text.

    Args:
        path: the file; None for standard output.
        text: with its line ends.

    Raises:
        InvalidInput: it cannot be written.
    """
    with _writing(path) as file:
        file.write(text.encode())


def write_grid(path: Path | None, pictures: Array, columns: int | None = None) -> None:
    """Write uint8 pictures as one PNG, in a grid that is nearly square unless told otherwise.

    Args:
        path: the file; None for standard output.
        pictures: [n, height, width] or [n, channels, height, width] uint8.
        columns: pictures side by side.

    Raises:
        InvalidInput: the rows are no pictures, or the file cannot be written.
    """
    from PIL import Image  # noqa: PLC0415  only needed for PNG

    n = len(pictures)
    tiles = _channels_last(pictures)
    columns = min(columns or ceil(sqrt(n)), n)
    lines = ceil(n / columns)
    height, width, channels = tiles.shape[1:]
    grid = np.full(
        (lines * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, channels), 255, np.uint8
    )
    for number, tile in enumerate(tiles):
        line, column = divmod(number, columns)
        top, left = line * (height + _GAP), column * (width + _GAP)
        grid[top : top + height, left : left + width] = tile
    with _writing(path) as file:
        Image.fromarray(grid[..., 0] if channels == 1 else grid).save(file, "PNG")


def _channels_last(pictures: Array) -> Array:
    """[n, height, width, channels] of what Pillow can write."""
    if pictures.ndim == 3:
        return pictures[..., np.newaxis]
    if pictures.ndim == 4 and pictures.shape[1] in MODES:
        return np.moveaxis(pictures, 1, -1)
    raise InvalidInput(f"rows of shape {list(pictures.shape[1:])} are no pictures; write .npy")


@contextmanager
def _writing(path: Path | None) -> Iterator[IO[bytes]]:
    """A file that becomes the path's, or goes to standard output, once it is whole."""
    whole = io.BytesIO()  # which can seek, as the writers need; a pipe cannot
    yield whole
    try:
        if path is None:
            _write_out(whole.getbuffer())
        elif path.exists() and not path.is_file():  # a device or a named pipe
            path.write_bytes(whole.getbuffer())
        else:
            _replace(path.resolve(), whole.getbuffer())  # a link stays one
    except BrokenPipeError:
        raise  # who reads has had enough, and click ends without a word
    except OSError as exc:
        name = path or "standard output"
        raise InvalidInput(f"{name} cannot be written: {exc.strerror or exc}") from exc


def _write_out(content: memoryview) -> None:
    if sys.stdout is None:
        raise OSError(errno.EBADF, "it is closed")
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def _replace(path: Path, content: memoryview) -> None:
    """Put the content where a file is or will be; what fails leaves the older one as it was.

    Only where nothing may stand beside a file, or it cannot be exchanged, is it overwritten.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_bytes(content)
        if path.exists():
            fresh.chmod(stat.S_IMODE(path.stat().st_mode))
        fresh.replace(path)
    except OSError as exc:
        if fresh.exists():
            fresh.unlink()
        if exc.errno not in _OVERWRITTEN:
            raise
        path.write_bytes(content)
