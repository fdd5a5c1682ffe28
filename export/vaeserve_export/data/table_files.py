"""CSV and Parquet files, read column by column."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vaeserve_export.data.rows import Array, reason
from vaeserve_export.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_MISSING = {"", "na", "n/a", "nan", "null", "none"}  # as people and pandas write them

Table = dict[str, Array]
"""By heading: float64, NaN where a value is missing, if all others are numbers; else str, '' where
a value is missing."""


def read_csv(file: Path) -> Table:
    """Read comma-separated values, UTF-8, whose first line is the headings.

    Raises:
        DataError: unreadable, no headings, or a line that is longer or shorter than they are.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            lines = csv.reader(stream, strict=True)
            headings = [name.strip() for name in next(lines, [])]
            _check(headings, file)
            rows = list(_whole(lines, len(headings), file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read as CSV: {reason(error)}") from error
    cells = zip(*rows, strict=True) if rows else ([] for _ in headings)
    return dict(zip(headings, map(_parsed, cells), strict=True))


def read_parquet(file: Path) -> Table:
    """Read a Parquet file; booleans are 0 and 1.

    Raises:
        DataError: unreadable, or pyarrow is not installed.
    """
    try:
        import pyarrow.parquet as pq  # noqa: PLC0415 - an extra of its own
    except ModuleNotFoundError as error:
        raise DataError("Parquet needs pyarrow: pip install 'vaeserve[parquet]'") from error
    try:
        table = pq.ParquetFile(file).read()
    except (OSError, ValueError, NotImplementedError) as error:  # pyarrow's own are among these
        raise DataError(f"{file}: cannot be read as Parquet: {reason(error)}") from error
    _check(table.column_names, file)
    return dict(zip(table.column_names, map(_unpacked, table.columns), strict=True))


def _check(headings: Sequence[str], file: Path) -> None:
    if len(headings) == 1 and (";" in headings[0] or "\t" in headings[0]):
        raise DataError(f"{file}: has one column, {headings[0]!r}; separate values by commas")
    if headings and all(map(is_number, headings)):
        raise DataError(f"{file}: its first line is numbers; it must be the columns' headings")
    for name in headings:
        if not name or name.startswith("__index_level_"):
            raise DataError(
                f"{file}: column {headings.index(name) + 1} has no heading; "
                "if it is the row numbers that pandas writes, write the table with index=False"
            )
        if headings.count(name) > 1:
            raise DataError(f"{file}: two columns are headed {name!r}")
    if not headings:
        raise DataError(f"{file}: is empty")


def _whole(lines: Any, width: int, file: Path) -> Iterator[list[str]]:
    """The lines that hold anything."""
    for line in lines:
        if line and len(line) != width:
            raise DataError(
                f"{file}: line {lines.line_num} has {len(line)} values, the headings are {width}"
            )
        if line:
            yield line


def _parsed(cells: Sequence[str]) -> Array:
    texts = [text if (text := cell.strip()).lower() not in _MISSING else "" for cell in cells]
    with suppress(ValueError):
        return np.array([text or "nan" for text in texts], np.float64)
    return np.array(texts)


def _unpacked(column: "pa.ChunkedArray") -> Array:
    import pyarrow as pa  # noqa: PLC0415 - an extra of its own

    kind, types = column.type, pa.types
    if types.is_boolean(kind):
        column, kind = column.cast(pa.uint8()), pa.uint8()
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return np.asarray(column.cast(pa.float64(), safe=False).to_numpy())
    return np.array(["" if value is None else str(value) for value in column.to_pylist()])


def is_number(text: str) -> bool:
    """Whether a cell of a CSV file is a number."""
    with suppress(ValueError):
        return bool(np.array([text], np.float64).size)
    return False
