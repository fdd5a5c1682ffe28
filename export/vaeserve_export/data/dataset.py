"""Training data as one array in memory: which sources there are, and the split for validation."""

import dataclasses
import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from vaeserve_export.data import archives, idx, named, pictures, tables
from vaeserve_export.data.rows import LEVEL, Column, Part, Rows
from vaeserve_export.data.spec import Spec, parse
from vaeserve_export.errors import DataError, NoSuchPart

VALIDATION_FRACTION = 0.1


@dataclass(frozen=True)
class Dataset:
    """Rows to train on, or to measure on.

    Rows of tables are standardised: (value - mean) / scale, column by column.

    Attributes:
        x: float32 [rows, ...]; pictures are [rows, channels, height, width] with values in [0, 1].
        labels: int64 [rows], or None.
        level: model units of one uint8 level (1/255 for levels 0..255) where rows are pictures;
            None where they are vectors.
        name: the specification it was loaded from.
        columns: names and statistics of the table's columns; empty unless rows come from a table.
        validation: rows that the source itself sets aside for validation; None where it does not.
        mixed: whether the first rows are known to be a sample of all: a seed has drawn their order,
            or whoever published the set has mixed it. Files of one's own may be sorted by class.
        black: value of level 0, where rows are pictures.
        white: value of the highest level. Other than 0 and 1 once the rows have been brought into
            the values of a model that takes others.
    """

    x: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64] | None
    level: float | None
    name: str
    columns: tuple[Column, ...] = ()
    validation: "Dataset | None" = None
    mixed: bool = False
    black: float = 0.0
    white: float = 1.0

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return self.x.shape[1:]

    @cached_property
    def sha256(self) -> str:
        """Digest of the shape and the values, lower-case hex; the labels do not matter to a VAE."""
        content = hashlib.sha256(repr(self.x.shape).encode())
        content.update(np.ascontiguousarray(self.x, dtype="<f4").data)
        if self.validation:
            content.update(self.validation.sha256.encode())
        return content.hexdigest()

    def take(self, rows: npt.NDArray[np.int64]) -> "Dataset":
        """Some rows, by number, in that order."""
        labels = None if self.labels is None else self.labels[rows]
        return dataclasses.replace(self, x=self.x[rows], labels=labels, validation=None)

    @property
    def joined(self) -> "Dataset":
        """The rows, and behind them the source's own for validation; labels if both have them."""
        last = self.validation
        if last is None:
            return self
        labels = None
        if self.labels is not None and last.labels is not None:
            labels = np.concatenate([self.labels, last.labels])
        x = np.concatenate([self.x, last.x])
        return dataclasses.replace(self, x=x, labels=labels, validation=None, mixed=False)

    def shuffled(self, seed: int) -> "Dataset":
        """The rows in an order drawn by the seed, for whoever takes the first of them for a sample.

        Rows that are mixed already stay as they are.
        """
        if self.mixed:
            return self
        order = np.random.default_rng(seed).permutation(len(self.x))
        return dataclasses.replace(self.take(order), mixed=True)


def load(
    spec: str,
    *,
    part: Literal["train", "test"] = "train",
    data_dir: Path | None = None,
    columns: tuple[Column, ...] = (),
) -> Dataset:
    """Load a part of a source of data; the order of its rows is that of files or of sorted paths.

    Args:
        spec: `digits` (scikit-learn's 8x8 handwritten digits), `mnist`, `fashion-mnist`, or a
            format and a place: see `spec.parse` and the readers.
        part: `train` is everything but the test part. Nothing that trains or chooses loads `test`.
        data_dir: where named sets are looked for, each in a folder of its name.
        columns: of the model that the rows of a table are for: they are standardised by these, and
            must have the same names. If empty, by those of the source's own train part.

    Raises:
        NoSuchPart: a source without that part.
        DataError: an unknown source, or data that is missing, broken, empty, ragged or not finite.
    """
    source = parse(spec)
    rows = _read(source, part, data_dir, columns)
    if rows is None:
        raise NoSuchPart(f"{spec}: has no {part} part; name a source that holds such rows alone")
    # What needs no place is published, and its publishers have mixed it.
    dataset = dataclasses.replace(_checked(rows, spec), mixed=source.place is None)
    held_out = _read(source, "valid", data_dir, columns) if part == "train" else None
    if held_out is None:
        return dataset
    validation = _checked(held_out, f"{spec} (validation)")
    if validation.row_shape != dataset.row_shape:
        raise DataError(
            f"{spec}: rows for validation are {list(validation.row_shape)} each, "
            f"those to train on {list(dataset.row_shape)}"
        )
    return dataclasses.replace(dataset, validation=validation)


def split(rows: int, seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Row numbers for training and for validation, by a seeded permutation.

    A tenth of the rows, at least one, is for validation.

    Raises:
        DataError: fewer than two rows.
    """
    held_out = _held_out(rows)
    order = np.random.default_rng(seed).permutation(rows)
    return order[held_out:], order[:held_out]


def _held_out(rows: int) -> int:
    """How many rows are for validation."""
    if rows < 2:
        raise DataError(f"{rows} row is too few: one is needed to train, one to validate")
    return max(1, int(rows * VALIDATION_FRACTION))


def training_rows(dataset: Dataset, seed: int) -> tuple[Dataset, Dataset]:
    """The rows to train on and those to validate on.

    A source's own validation part is used as it is, and either part has the order of its file; else
    the seed splits the rows, and has drawn their order. `Dataset.shuffled` makes either a sample.

    Args:
        dataset: the train part of a source.
        seed: of the run.

    Raises:
        DataError: no validation part, and too few rows to split.
    """
    if dataset.validation:
        return dataclasses.replace(dataset, validation=None), dataset.validation
    mixed = dataclasses.replace(dataset, mixed=True)
    train, validation = split(len(dataset.x), seed)
    return mixed.take(train), mixed.take(validation)


def part_sizes(dataset: Dataset) -> tuple[int, int]:
    """How many rows `training_rows` gives to train on and to validate on, without copying them.

    Raises:
        DataError: as of `training_rows`.
    """
    rows = len(dataset.x)
    if dataset.validation:
        return rows, len(dataset.validation.x)
    held_out = _held_out(rows)
    return rows - held_out, held_out


def _read(
    source: Spec, part: Part, data_dir: Path | None, columns: tuple[Column, ...]
) -> Rows | None:
    """The rows of a part, or None if the source has none."""
    if source.source in named.SETS:
        return named.read(named.SETS[source.source], part, data_dir)
    if source.place is None:
        return _digits(part)
    if source.source == "folder":
        return pictures.read(source.place, part, pictures.Form(source.size, source.grey))
    if source.source in {"csv", "parquet"}:
        return tables.read(source.place, part, source.source, source.label, columns)
    readers = {"idx": idx.read, "npz": archives.read_npz, "npy": archives.read_npy}
    return readers[source.source](source.place, part)


def _digits(part: Part) -> Rows | None:
    """1,797 pictures of 8x8 pixels with the levels 0..16, which come with scikit-learn."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - slow to import, seldom needed

    if part != "train":
        return None
    digits = load_digits()
    return Rows(digits.images[:, None] / 16.0, digits.target, LEVEL)


def _checked(rows: Rows, spec: str) -> Dataset:
    """What must hold for every source."""
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is refused
        x = np.ascontiguousarray(rows.x, np.float32)
    labels = rows.labels
    if x.size == 0:
        raise DataError(f"{spec}: is empty: shape {list(x.shape)}")
    if not np.isfinite(x).all():
        raise DataError(f"{spec}: holds NaN or infinite values")
    if rows.level is not None and not 0.0 <= x.min() <= x.max() <= 1.0:
        raise DataError(f"{spec}: pictures must lie in [0, 1], found {x.min():g} to {x.max():g}")
    if labels is not None and (labels.shape != x.shape[:1] or labels.dtype.kind not in "iu"):
        raise DataError(
            f"{spec}: {len(x)} rows need as many whole numbers as labels, "
            f"found {labels.dtype} {list(labels.shape)}"
        )
    return Dataset(
        x=x,
        labels=None if labels is None else labels.astype(np.int64),
        level=rows.level,
        name=spec,
        columns=rows.columns,
    )
