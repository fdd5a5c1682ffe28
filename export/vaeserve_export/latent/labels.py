"""Labels that a user brings: which rows have an attribute, or a labelling to balance it by."""

import csv
from pathlib import Path

import numpy as np

from vaeserve_export.errors import DataError
from vaeserve_export.latent.directions import Labels


def read_labels(file: Path, rows: int) -> Labels:
    """Whole numbers, one for each row of the data and in its order.

    Args:
        file: .npy, a one-dimensional array of integers or booleans; or .csv, a number a line, with
            or without a heading.
        rows: of the data.

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
    except (ValueError, EOFError) as error:
        raise DataError(f"{file}: holds no whole numbers, one for each row: {error}") from error
    if labels.shape != (rows,):
        raise DataError(f"{file}: holds {list(labels.shape)} labels, the data has {rows} rows")
    return labels


def _read_npy(file: Path) -> Labels:
    with file.open("rb") as stream:
        array = np.load(stream, allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biu":
        raise ValueError("no array of integers or booleans")
    return array.astype(np.int64)


def _read_csv(file: Path) -> Labels:
    with file.open(newline="", encoding="utf-8") as stream:
        lines = [line for line in csv.reader(stream) if line]
    if any(len(line) != 1 for line in lines):
        raise ValueError("more than one column")
    cells = [line[0].strip() for line in lines]
    heading = 1 if cells and not cells[0].lstrip("+-").isdecimal() else 0
    return np.array([int(cell) for cell in cells[heading:]], np.int64)
