"""Readers for data on disk: MNIST-like IDX files, numpy archives, folders of pictures."""

import gzip
import math
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vaeserve_export.errors import DataError

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

IDX_IMAGES = 0x00000803  # unsigned bytes, three dimensions
IDX_LABELS = 0x00000801  # unsigned bytes, one dimension
LEVEL = 1 / 255  # levels 0..255 are the values 0..1
PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg"}

_Array = npt.NDArray[Any]


class Rows(NamedTuple):
    """What a reader returns.

    Attributes:
        x: [rows, ...] in model units.
        labels: [rows], or None.
        level: model units of one uint8 level where rows are pictures, else None.
    """

    x: _Array
    labels: _Array | None
    level: float | None


def read_idx(folder: Path) -> Rows:
    """Read train-images-idx3-ubyte and, if there, train-labels-idx1-ubyte; plain or .gz.

    Format: big-endian 32-bit integers (magic, then each dimension), then one byte an element.

    Returns:
        x [rows, 1, height, width] in [0, 1].

    Raises:
        DataError: no images file, another magic number, or a byte count that the header does
            not ask for.
    """
    images = _read_idx_file(folder, "train-images-idx3-ubyte", IDX_IMAGES)
    if images is None:
        raise DataError(f"{folder}: holds no train-images-idx3-ubyte, plain or .gz")
    labels = _read_idx_file(folder, "train-labels-idx1-ubyte", IDX_LABELS)
    return Rows(_in_units(images[:, None], LEVEL), labels, LEVEL)


def read_npz(file: Path) -> Rows:
    """Read a numpy archive; nothing in it is unpickled.

    Arrays: `images`, else `x`, else `train`; `labels` if there. uint8 arrays are pictures
    [rows, height, width], [rows, height, width, channels] or [rows, channels, height, width] with
    levels 0..255, or 0..1 where none is above 1: served, such a model takes and gives those levels.
    Float arrays are vectors [rows, features] or pictures in [0, 1] with a channel axis.

    Raises:
        DataError: unreadable, no such array, or another dtype or shape.
    """
    if file.exists() and not zipfile.is_zipfile(file):
        raise DataError(f"{file}: cannot be read as an .npz archive: it is none")
    try:
        # Opened here, because np.load leaves a file that is no archive open.
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            found = ", ".join(archive)
            name = next((key for key in ("images", "x", "train") if key in archive), None)
            array, labels = archive[name] if name else None, archive.get("labels")
    except Exception as error:  # a damaged archive raises nearly every class there is
        raise DataError(f"{file}: cannot be read as an .npz archive: {_reason(error)}") from error
    if name is None:
        raise DataError(f"{file}: holds no array named images, x or train, but {found}")
    if not isinstance(array, np.ndarray) or not isinstance(labels, np.ndarray | None):
        raise DataError(f"{file}: cannot be read as an .npz archive: a member is no array")
    if array.dtype == np.uint8:
        level = 1.0 if array.max(initial=0) <= 1 else LEVEL
        pictures = _channels_first(array, f"{file}: {name}")
        return Rows(_in_units(pictures, level), labels, level)
    if array.dtype.kind != "f" or array.ndim not in {2, 4}:
        raise DataError(
            f"{file}: {name} is {array.dtype} {list(array.shape)}; "
            "use uint8 pictures, floats [rows, features], or floats [rows, channels, height, width]"
        )
    if array.ndim == 2:
        return Rows(array, labels, None)
    return Rows(_channels_first(array, f"{file}: {name}"), labels, LEVEL)


def read_folder(folder: Path) -> Rows:
    """Read every PNG and JPEG below a folder, in the order of their paths.

    Pictures that lie in sub-folders are labelled 0, 1, ... by the sub-folder's name.

    Returns:
        x [rows, channels, height, width] in [0, 1]; one channel for grey pictures, else three.

    Raises:
        DataError: no pictures, an unreadable one, one with alpha or more than 8 bits a channel, or
            one whose size or colour differs from the first.
    """
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES)
    if not paths:
        what = "holds no PNG or JPEG pictures" if folder.is_dir() else "is no folder"
        raise DataError(f"{folder}: {what}")
    first = _read_picture(paths[0])
    x = np.empty((len(paths), *first.shape), np.float32)
    for row, path in enumerate(paths):
        picture = _read_picture(path)
        if picture.shape != first.shape:
            raise DataError(
                f"{path}: is {_size(picture)} but {paths[0].name} is {_size(first)}; "
                "all pictures must have one size and colour mode"
            )
        x[row] = _in_units(picture, LEVEL)
    classes = [path.relative_to(folder).parts[0] for path in paths if path.parent != folder]
    if len(classes) < len(paths):
        return Rows(x, None, LEVEL)
    return Rows(x, np.unique(classes, return_inverse=True)[1], LEVEL)


def _read_idx_file(folder: Path, name: str, magic: int) -> _Array | None:
    plain, packed = folder / name, folder / f"{name}.gz"
    path = plain if plain.exists() else packed
    if not path.exists():
        return None
    try:
        data = gzip.decompress(path.read_bytes()) if path == packed else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {_reason(error)}") from error
    if not data:
        raise DataError(f"{path}: is empty")
    header = 4 + 4 * (magic & 0xFF)
    found = int.from_bytes(data[:4], "big")
    if len(data) < header or found != magic:
        raise DataError(
            f"{path}: magic number {found:#010x} instead of {magic:#010x}: no such IDX file"
        )
    shape = [int.from_bytes(data[at : at + 4], "big") for at in range(4, header, 4)]
    if 0 in shape:
        raise DataError(f"{path}: is empty: shape {shape}")
    if len(data) != header + math.prod(shape):
        raise DataError(
            f"{path}: shape {shape} takes {header + math.prod(shape)} bytes, "
            f"the file has {len(data)}: it is truncated, too long or damaged"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _channels_first(array: _Array, name: str) -> _Array:
    """[rows, channels, height, width] of the three layouts that pictures come in."""
    if array.ndim == 3:
        return array[:, None]
    if array.ndim == 4 and array.shape[3] in {1, 3}:
        return array.transpose(0, 3, 1, 2)
    if array.ndim == 4 and array.shape[1] in {1, 3}:
        return array
    raise DataError(f"{name} has shape {list(array.shape)}; pictures have one or three channels")


def _in_units(levels: _Array, level: float) -> _Array:
    """uint8 levels to model units; divided, as everybody does, since it rounds better."""
    return levels.astype(np.float32) / np.float32(1 / level)


def _read_picture(path: Path) -> _Array:
    """uint8 [channels, height, width], the way up that it is shown.

    One channel for grey pictures, three for all others.
    """
    from PIL import Image, ImageOps  # noqa: PLC0415 - only this source needs it

    try:
        # Two formats, so that a file's content cannot choose among all the decoders there are.
        with Image.open(path, formats=("PNG", "JPEG")) as picture:
            _check_levels(picture, path)
            grey = picture.mode in {"1", "L"}
            upright = ImageOps.exif_transpose(picture)
            levels = np.asarray(upright.convert("L" if grey else "RGB"))
    except DataError:
        raise
    except Exception as error:  # a damaged picture raises what its decoder stumbles over
        raise DataError(f"{path}: cannot be read as a picture: {_reason(error)}") from error
    return levels[None] if grey else levels.transpose(2, 0, 1)


def _check_levels(picture: "ImageFile", path: Path) -> None:
    """Refuse what would lose something as grey or RGB levels of 8 bits."""
    # Pillow reads colours of 16 bits as 8, and only the decoder's arguments still tell.
    deep = any(str(tile[3]).endswith(";16B") for tile in picture.tile)
    if deep or picture.mode.startswith(("I", "F")):
        raise DataError(f"{path}: has more than 8 bits a channel; convert it first")
    if picture.has_transparency_data:
        raise DataError(f"{path}: has an alpha channel; flatten it onto a background first")


def _size(picture: _Array) -> str:
    channels, height, width = picture.shape
    return f"{width}x{height} {'grey' if channels == 1 else 'RGB'}"


def _reason(error: Exception) -> str:
    """The first line of an error's text: library messages can be long."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]
