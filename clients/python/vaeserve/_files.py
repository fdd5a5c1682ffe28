"""Arrays from and to .npy, .npz and .png files, for the command line."""

import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import ceil, sqrt
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile

import numpy as np

from vaeserve._errors import InvalidInput
from vaeserve._info import ModelInfo
from vaeserve._latents import Array, Latents

_GAP = 2  # pixels between the pictures of a grid
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's names by number of channels
_ID = "latent_space_id"

# What numpy, zipfile and Pillow raise, each for another place where a file is damaged.
_DAMAGED = (
    OSError,
    ValueError,
    EOFError,
    SyntaxError,
    RuntimeError,
    KeyError,
    MemoryError,
    BadZipFile,
    zlib.error,
    struct.error,
)


def read_pictures(path: Path, info: ModelInfo) -> Array:
    """Read input rows.

    Args:
        path: .png with one picture of exactly the model's size and channels; .npy; or .npz with one
            array or one named x_hat, or as training data is: images, x or train.
        info: the model.

    Returns:
        What the file holds; a PNG as uint8 levels of input_shape.

    Raises:
        InvalidInput: the file cannot be read as that.
    """
    if suffix(path) == ".png":
        return _read_png(path, info)
    return _read_arrays(path, ("x_hat", "images", "x", "train"))[0]


def read_latents(path: Path) -> Latents:
    """Read latent rows: .npy, or .npz with one array or one named latents or mu.

    Raises:
        InvalidInput: the file cannot be read as that.
    """
    array, space = _read_arrays(path, ("latents", "mu"))
    return Latents(array, space)


def holds_latents(path: Path) -> bool:
    """Whether a file was written with latents and their id, as by `encode` and `sample`."""
    return suffix(path) == ".npz" and _ID in _load(path)


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write .npz with every array that is not None, or .npy with the first one.

    Raises:
        InvalidInput: the file cannot be written.
    """
    with _writing(path) as file:
        if suffix(path) == ".npz":
            np.savez(file, **{name: value for name, value in arrays.items() if value is not None})
        else:
            np.save(file, np.asarray(next(iter(arrays.values()))))


def write_grid(path: Path, pictures: Array, columns: int | None = None) -> None:
    """Write uint8 pictures as one PNG, in a grid that is nearly square unless told otherwise.

    Args:
        path: the .png file.
        pictures: [n, height, width] or [n, channels, height, width] uint8.
        columns: pictures side by side.

    Raises:
        InvalidInput: the rows are no pictures, or the file cannot be written.
    """
    from PIL import Image  # noqa: PLC0415  only needed for PNG

    n = len(pictures)
    tiles = _channels_last(pictures)
    columns = columns or ceil(sqrt(n))
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


def suffix(path: Path) -> str:
    """What kind of file a path names, in lower case: .PNG is .png."""
    return path.suffix.lower()


@contextmanager
def _writing(path: Path) -> Iterator[IO[bytes]]:
    try:
        with path.open("wb") as file:
            yield file
    except OSError as exc:
        raise InvalidInput(f"{path} cannot be written: {exc.strerror or exc}") from exc


def _channels_last(pictures: Array) -> Array:
    """[n, height, width, channels] of what Pillow can write."""
    if pictures.ndim == 3:
        return pictures[..., np.newaxis]
    if pictures.ndim == 4 and pictures.shape[1] in _MODES:
        return np.moveaxis(pictures, 1, -1)
    raise InvalidInput(f"rows of shape {list(pictures.shape[1:])} are no pictures; write .npy")


def _read_png(path: Path, info: ModelInfo) -> Array:
    """One picture, [*input_shape] uint8."""
    from PIL import Image  # noqa: PLC0415  only needed for PNG

    *channels, height, width = info.input_shape if len(info.input_shape) > 1 else (0, 0, 0)
    mode = _MODES.get(channels[0] if channels else 1)
    if mode is None or not height:
        raise InvalidInput(
            f"{info.name!r} takes rows of shape {list(info.input_shape)}, not pictures: pass .npy"
        )
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            picture.load()
    except (*_DAMAGED, Image.DecompressionBombError) as exc:
        raise InvalidInput(f"{path} is no picture that can be read") from exc
    plain = {"1": "L", "P": "RGB"}.get(picture.mode, picture.mode)
    if (plain, picture.size) != (mode, (width, height)):
        raise InvalidInput(
            f"{path} is {picture.width}x{picture.height} {plain}; "
            f"{info.name!r} takes {width}x{height} {mode}"
        )
    pixels = np.asarray(picture.convert(mode))
    return np.moveaxis(pixels, -1, 0) if pixels.ndim == 3 else pixels.reshape(info.input_shape)


def _read_arrays(path: Path, names: tuple[str, ...]) -> tuple[Array, str]:
    """The array under the first name that is there, or the only one; and the latents' id."""
    arrays = _load(path)
    found = [name for name in names if name in arrays] or list(arrays)
    if not found or (len(found) > 1 and found[0] not in names):
        raise InvalidInput(f"{path} holds {', '.join(arrays)}; one must be {' or '.join(names)}")
    return arrays[found[0]], str(arrays.get(_ID, ""))


def _load(path: Path) -> dict[str, Array]:
    """Every array of the file by name; the one of a .npy has none."""
    try:
        with path.open("rb") as file:
            loaded = np.load(file)
            return {"": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except _DAMAGED as exc:
        raise InvalidInput(f"{path} is no .npy or .npz file that can be read") from exc
