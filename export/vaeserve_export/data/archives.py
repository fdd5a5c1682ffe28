"""numpy's files: .npz archives with several arrays, .npy files with one. Nothing is unpickled."""

import zipfile
from pathlib import Path

import numpy as np

from vaeserve_export.data.rows import LEVEL, Array, Part, Rows, channels_first, in_units, reason
from vaeserve_export.errors import DataError

_TRAIN = ("images", "x", "train")


def read_npz(file: Path, part: Part) -> Rows | None:
    """Read a part of a numpy archive.

    Arrays: `images`, else `x`, else `train` to train on, perhaps `valid` and `test`; each may have
    labels: `labels` or `train_labels`, `valid_labels`, `test_labels`. uint8 arrays are pictures
    [rows, height, width], [rows, height, width, channels] or [rows, channels, height, width] with
    levels 0..255, or 0..1 where none to train on is above 1: served, such a model takes and gives
    those levels. Float arrays are vectors [rows, features] or pictures in [0, 1] with a channel
    axis.

    Returns:
        The rows; None where the archive lacks that part.

    Raises:
        DataError: unreadable, nothing to train on, or another dtype or shape.
    """
    labels_name = f"{part}_labels"
    arrays = _open_npz(file, {*_TRAIN, part, "labels", labels_name})
    name = next(key for key in _TRAIN if key in arrays)
    train = arrays[name]
    if part == "train":
        labels = arrays.get("labels", arrays.get(labels_name))
        return _rows(train, labels, _level(train), f"{file}: {name}")
    if part not in arrays:
        return None
    rows = arrays[part]
    if rows.dtype.kind != train.dtype.kind:
        raise DataError(f"{file}: {part} is {rows.dtype} but {name} is {train.dtype}")
    return _rows(rows, arrays.get(labels_name), _level(train), f"{file}: {part}")


def read_npy(file: Path, part: Part) -> Rows | None:
    """Read a file of one array, which is to be as in an archive; there are no labels.

    Returns:
        The rows to train on; None for the other parts.

    Raises:
        DataError: unreadable, or another dtype or shape.
    """
    if part != "train":
        return None
    try:
        with file.open("rb") as stream:
            array = np.lib.format.read_array(stream, allow_pickle=False)
    except Exception as error:  # a damaged header raises nearly every class there is
        raise DataError(f"{file}: cannot be read as an .npy file: {reason(error)}") from error
    return _rows(array, None, _level(array), f"{file}: the array")


def _open_npz(file: Path, wanted: set[str]) -> dict[str, Array]:
    """Those of the wanted arrays that are there, one to train on among them."""
    if file.exists() and not zipfile.is_zipfile(file):
        raise DataError(f"{file}: cannot be read as an .npz archive: it is none")
    try:
        # Opened here, because np.load leaves a file that is no archive open.
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            found = list(archive)
            arrays = {name: archive[name] for name in found if name in wanted}
    except Exception as error:  # a damaged archive raises nearly every class there is
        raise DataError(f"{file}: cannot be read as an .npz archive: {reason(error)}") from error
    if not arrays.keys() & set(_TRAIN):
        raise DataError(f"{file}: holds no array named images, x or train, but {', '.join(found)}")
    if not all(isinstance(array, np.ndarray) for array in arrays.values()):
        raise DataError(f"{file}: cannot be read as an .npz archive: a member is no array")
    return arrays


def _level(train: Array) -> float:
    """Model units of one level, by the part to train on: the others must follow it."""
    binary = train.dtype == np.uint8 and train.max(initial=0) <= 1
    return 1.0 if binary else LEVEL


def _rows(array: Array, labels: Array | None, level: float, name: str) -> Rows:
    if array.dtype == np.uint8:
        return Rows(in_units(channels_first(array, name), level), labels, level)
    if array.dtype.kind != "f" or array.ndim not in {2, 4}:
        raise DataError(
            f"{name} is {array.dtype} {list(array.shape)}; "
            "use uint8 pictures, floats [rows, features], or floats [rows, channels, height, width]"
        )
    if array.ndim == 2:
        return Rows(array, labels, None)
    return Rows(channels_first(array, name), labels, LEVEL)
