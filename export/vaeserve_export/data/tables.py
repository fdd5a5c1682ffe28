"""Tables as vectors: each column standardised by the statistics of the train part."""

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from vaeserve_export.data.rows import NAMES, Array, Column, Part, Rows
from vaeserve_export.data.table_files import Table, is_number, read_csv, read_parquet
from vaeserve_export.errors import DataError

_READERS = {"csv": read_csv, "parquet": read_parquet}


def read(
    place: Path, part: Part, kind: str, label: str | None, columns: tuple[Column, ...]
) -> Rows | None:
    """Read a part of a table and standardise it.

    A file is a part to train on. A folder holds `train.KIND` and, perhaps, `valid.KIND` (or `val`,
    or `validation`) and `test.KIND`.

    Args:
        place: file or folder.
        part: which part.
        kind: `csv` or `parquet`.
        label: heading of the column of labels, which is no feature: whole numbers, or names, which
            are numbered in the sorted order that they have in the train part.
        columns: to standardise by; if empty, those of the train part, whichever part is read.

    Returns:
        x [rows, columns], float64; None where the place lacks that part.

    Raises:
        DataError: an unreadable file, two of one part, a column that is not of numbers, a missing
            value, or columns that are not those of the train part or the given ones.
    """
    file, train_file = _file(place, part, kind), _file(place, "train", kind)
    if train_file is None:
        raise DataError(f"{place}: holds no train.{kind}")
    if file is None:
        return None
    table = _READERS[kind](file)
    train = table if file == train_file else _READERS[kind](train_file)
    if label is not None and (label not in table or label not in train):
        raise DataError(f"{file}: has no column {label!r} of labels, but {_listed(table)}")
    if not columns:
        columns = tuple(_statistics(train, name, train_file) for name in train if name != label)
    if not columns:
        raise DataError(f"{file}: has no column but the labels")
    features = [name for name in table if name != label]
    _require_same([column.name for column in columns], features, file)
    x = np.stack([_numbers(table, column.name, file) for column in columns], axis=1)
    with np.errstate(over="ignore"):  # what becomes infinite is refused by the caller
        x = (x - [column.mean for column in columns]) / [column.scale for column in columns]
    return Rows(x, None if label is None else _labels(table, train, label, file), None, columns)


def _file(place: Path, part: Part, kind: str) -> Path | None:
    if not place.is_dir():
        return place if part == "train" else None
    files = [file for stem in NAMES[part] if (file := place / f"{stem}.{kind}").exists()]
    if len(files) > 1:
        names = " and ".join(file.name for file in files)
        raise DataError(f"{place}: {names} are both the {part} part; keep one")
    return files[0] if files else None


def _statistics(train: Table, name: str, file: Path) -> Column:
    """Mean and population standard deviation.

    Sums are exactly rounded (math.fsum), so a table has the same digest on every machine.
    """
    values = _numbers(train, name, file)
    if values.min() == values.max():  # the mean of equal values may differ from them by rounding
        return Column(name, float(values[0]), 1.0)
    try:
        mean = math.fsum(values) / len(values)
        with np.errstate(over="ignore", under="ignore"):
            scale = math.sqrt(math.fsum((values - mean) ** 2) / len(values))
    except OverflowError:
        scale = math.inf
    if not 0 < scale < math.inf:
        raise DataError(f"{file}: column {name!r} is beyond what can be standardised")
    return Column(name, mean, scale)


def _numbers(table: Table, name: str, file: Path) -> Array:
    values = table[name]
    if not len(values):
        raise DataError(f"{file}: is empty: it has no rows")
    missing = values == "" if values.dtype.kind == "U" else np.isnan(values)
    if missing.any():
        raise DataError(
            f"{file}: column {name!r} lacks a value in {missing.sum()} of {len(values)} rows, "
            f"first in row {missing.argmax() + 1}; fill them in or leave out the rows or the column"
        )
    if values.dtype.kind == "U":
        row = next((row for row, text in enumerate(values) if not is_number(text)), 0)
        raise DataError(
            f"{file}: column {name!r} is not of numbers: {str(values[row])!r} in row {row + 1}; "
            f"leave it out, make numbers of it, or take it as the labels with ,label={name}"
        )
    if not np.isfinite(values).all():
        raise DataError(f"{file}: column {name!r} holds infinite values")
    return values


def _labels(table: Table, train: Table, label: str, file: Path) -> Array:
    """Whole numbers as they are; names numbered in the sorted order that train's have."""
    values, names = table[label], train[label]
    missing = values == "" if values.dtype.kind == "U" else np.isnan(values)
    if missing.any():
        raise DataError(f"{file}: row {missing.argmax() + 1} has no label in column {label!r}")
    if values.dtype.kind != names.dtype.kind:
        raise DataError(f"{file}: labels are names in one part and numbers in the other")
    if values.dtype.kind == "f":
        if not (values == np.trunc(values)).all() or np.abs(values).max(initial=0) >= 2**53:
            raise DataError(f"{file}: labels are whole numbers or names; {label!r} has others")
        return values.astype(np.int64)
    classes = np.unique(names)
    if unknown := set(values) - set(classes):
        raise DataError(f"{file}: no row to train on is labelled {str(min(unknown))!r}")
    return np.searchsorted(classes, values)


def _require_same(known: list[str], found: list[str], file: Path) -> None:
    if missing := set(known) - set(found):
        raise DataError(f"{file}: lacks the columns {_listed(missing)}, which the model was given")
    if extra := set(found) - set(known):
        raise DataError(f"{file}: has columns that the model was not given: {_listed(extra)}")


def _listed(names: Iterable[str]) -> str:
    """A few names."""
    few = sorted(names)
    return ", ".join(few[:5]) + (f" and {len(few) - 5} more" if len(few) > 5 else "")
