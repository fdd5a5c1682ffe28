"""Labels that a user brings: which rows have an attribute, or a labelling to balance it by."""

import csv
from pathlib import Path

import numpy as np

from vaeserve_export.data.dataset import Dataset
from vaeserve_export.data.table_files import is_number
from vaeserve_export.errors import DataError
from vaeserve_export.latent.directions import Labels


def read_labels(file: Path, data: Dataset) -> Labels:
    """Whole numbers, one for each row of the data and in its order.

    Args:
        file: .npy, a one-dimensional array of integers or booleans; or .csv, a number a line, with
            or without a heading.
        data: the rows to train on; those for validation behind them, where the source has its own.

    Returns:
        [rows].

    Raises:
        DataError: unreadable, another format, or another number of labels.
    """
    readers = {".npy": _read_npy, ".csv": _read_csv}
    if file.suffix not in readers:
        raise DataError(f"{file}: labels are read from .npy or .csv")
    try:
        labels = readers[file.suffix](file)
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, EOFError, OverflowError) as error:
        raise DataError(f"{file}: holds no whole numbers, one for each row: {error}") from error
    rows, last = len(data.x), data.validation
    if labels.shape != (rows + (len(last.x) if last else 0),):
        more = f" to train on and {len(last.x)} for validation, in this order" if last else ""
        raise DataError(
            f"{file}: holds {list(labels.shape)} labels, {data.name} has {rows} rows{more}"
        )
    return labels


def _read_npy(file: Path) -> Labels:
    with file.open("rb") as stream:
        array = np.load(stream, allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biu":
        raise ValueError("no array of integers or booleans")
    return array.astype(np.int64)


def _read_csv(file: Path) -> Labels:
    with file.open(newline="", encoding="utf-8-sig") as stream:  # Excel begins with a BOM
        lines = [line for line in csv.reader(stream) if line]
    if any(len(line) != 1 for line in lines):
        raise ValueError("more than one column")
    cells = [line[0].strip() for line in lines]
    heading = 1 if cells and not is_number(cells[0]) else 0
    return np.array([_whole(cell) for cell in cells[heading:]], np.int64)


def _whole(cell: str) -> int:
    """A whole number, also as pandas writes it where a column was of floats: 1.0."""
    value = float(cell)
    if not value.is_integer():
        raise ValueError(f"{cell!r} is none")
    return int(value)
