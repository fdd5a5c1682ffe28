"""Training data as one array in memory: which sources there are, and the split for validation."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vaeserve_export.data import files as data_files
from vaeserve_export.errors import DataError

VALIDATION_FRACTION = 0.1
SOURCES = "digits, idx:DIR, npz:FILE or folder:DIR"


@dataclass(frozen=True)
class Dataset:
    """Rows to train on.

    Attributes:
        x: float32 [rows, ...]; pictures are [rows, channels, height, width] with values in [0, 1].
        labels: int64 [rows], or None.
        level: model units of one uint8 level (1/255 for levels 0..255) where rows are pictures;
            None where they are vectors.
        name: the specification it was loaded from.
    """

    x: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64] | None
    level: float | None
    name: str

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return self.x.shape[1:]

    @cached_property
    def sha256(self) -> str:
        """Digest of the shape and the values, lower-case hex; the labels do not matter to a VAE."""
        content = hashlib.sha256(repr(self.x.shape).encode())
        content.update(np.ascontiguousarray(self.x, dtype="<f4").data)
        return content.hexdigest()


def load(spec: str) -> Dataset:
    """Load training data.

    Args:
        spec: `digits` (scikit-learn's 8x8 handwritten digits), `idx:DIR` (the train files of an
            MNIST-like folder; its test files stay untouched), `npz:FILE` (arrays `images`, `x` or
            `train`, and perhaps `labels`), or `folder:DIR` (PNG and JPEG pictures, sub-folders are
            classes).

    Raises:
        DataError: an unknown source, or data that is missing, broken, empty, ragged or not finite.
    """
    source, _, place = spec.partition(":")
    if source == "digits" and not place:
        rows = _digits()
    elif source == "idx" and place:
        rows = data_files.read_idx(Path(place))
    elif source == "npz" and place:
        rows = data_files.read_npz(Path(place))
    elif source == "folder" and place:
        rows = data_files.read_folder(Path(place))
    else:
        raise DataError(f"{spec!r} is no data source; use {SOURCES}")
    return _checked(rows, spec)


def split(rows: int, seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Row numbers for training and for validation, by a seeded permutation.

    A tenth of the rows, at least one, is for validation.

    Raises:
        DataError: fewer than two rows.
    """
    if rows < 2:
        raise DataError(f"{rows} row is too few: one is needed to train, one to validate")
    order = np.random.default_rng(seed).permutation(rows)
    held_out = max(1, int(rows * VALIDATION_FRACTION))
    return order[held_out:], order[:held_out]


def _digits() -> data_files.Rows:
    """1,797 pictures of 8x8 pixels with the levels 0..16, which come with scikit-learn."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - slow to import, seldom needed

    digits = load_digits()
    return data_files.Rows(digits.images[:, None] / 16.0, digits.target, data_files.LEVEL)


def _checked(rows: data_files.Rows, spec: str) -> Dataset:
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
    )
