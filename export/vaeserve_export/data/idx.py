"""MNIST-like IDX files, plain or packed."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from vaeserve_export.data.rows import LEVEL, Array, Part, Rows, in_units, reason
from vaeserve_export.errors import DataError

IMAGES = 0x00000803  # unsigned bytes, three dimensions
LABELS = 0x00000801  # unsigned bytes, one dimension

PREFIXES: dict[Part, str] = {"train": "train", "test": "t10k"}


def read(folder: Path, part: Part) -> Rows | None:
    """Read PART-images-idx3-ubyte and, if there, PART-labels-idx1-ubyte; plain or .gz.

    Format: big-endian 32-bit integers (magic, then each dimension), then one byte an element.

    Args:
        folder: where the files are.
        part: PART is `train` or, for the test part, `t10k`; there is no validation part.

    Returns:
        x [rows, 1, height, width] in [0, 1]; None where the folder lacks that part.

    Raises:
        DataError: no train images, another magic number, or a byte count that the header does
            not ask for.
    """
    if part not in PREFIXES:
        return None
    images, labels = names(part)
    x = _read_file(folder, images, IMAGES)
    if x is None and part == "train":
        raise DataError(f"{folder}: holds no {images}, plain or .gz")
    if x is None:
        return None
    return Rows(in_units(x[:, None], LEVEL), _read_file(folder, labels, LABELS), LEVEL)


def names(part: Part) -> tuple[str, str]:
    """The files of a part's images and labels."""
    return f"{PREFIXES[part]}-images-idx3-ubyte", f"{PREFIXES[part]}-labels-idx1-ubyte"


def unpacked(folder: Path, name: str) -> tuple[Path, bytes] | None:
    """The path and the unpacked content of a file that is there plain or as .gz.

    Raises:
        DataError: it cannot be read or unpacked.
    """
    plain, packed = folder / name, folder / f"{name}.gz"
    path = plain if plain.exists() else packed
    if not path.exists():
        return None
    try:
        data = path.read_bytes()
        return path, gzip.decompress(data) if path == packed else data
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {reason(error)}") from error


def _read_file(folder: Path, name: str, magic: int) -> Array | None:
    found = unpacked(folder, name)
    return parse(found[1], magic, found[0]) if found else None


def parse(data: bytes, magic: int, path: Path) -> Array:
    """The array in an unpacked IDX file.

    Raises:
        DataError: empty, another magic number, or a byte count that the header does not ask for.
    """
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
