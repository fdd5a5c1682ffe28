"""What readers of data have in common: what they return, and levels that become model units."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from vaeserve_export.errors import DataError

LEVEL = 1 / 255  # levels 0..255 are the values 0..1

Array = npt.NDArray[Any]
Part = Literal["train", "valid", "test"]

NAMES: dict[Part, tuple[str, ...]] = {
    "train": ("train",),
    "valid": ("valid", "val", "validation"),
    "test": ("test",),
}
"""What a part may be called in a folder."""


@dataclass(frozen=True)
class Column:
    """A column of a table: model value = (value - mean) / scale.

    Attributes:
        name: heading.
        mean: over the rows of the train part, in the column's unit.
        scale: standard deviation over them, in the column's unit; 1 where it never varies.
    """

    name: str
    mean: float
    scale: float


class Rows(NamedTuple):
    """What a reader returns.

    Attributes:
        x: [rows, ...] in model units.
        labels: [rows], or None.
        level: model units of one uint8 level where rows are pictures, else None.
        columns: of the table that the rows come from; empty unless they come from one.
    """

    x: Array
    labels: Array | None
    level: float | None
    columns: tuple[Column, ...] = ()


def in_units(levels: Array, level: float) -> Array:
    """uint8 levels to model units; divided, as everybody does, since it rounds better."""
    return levels.astype(np.float32) / np.float32(1 / level)


def channels_first(array: Array, name: str) -> Array:
    """[rows, channels, height, width] of the three layouts that pictures come in.

    Raises:
        DataError: another number of axes or of channels.
    """
    if array.ndim == 2:
        raise DataError(
            f"{name} has shape {list(array.shape)}; levels of pictures need a height and a width: "
            "reshape them to [rows, height, width]"
        )
    if array.ndim == 3:
        return array[:, None]
    if array.ndim == 4 and array.shape[3] in {1, 3}:
        return array.transpose(0, 3, 1, 2)
    if array.ndim == 4 and array.shape[1] in {1, 3}:
        return array
    raise DataError(f"{name} has shape {list(array.shape)}; pictures have one or three channels")


def reason(error: Exception) -> str:
    """The first line of an error's text: library messages can be long."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]
