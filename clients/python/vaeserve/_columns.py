"""Tables: their columns in their own units, and as the model values that a model takes. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from vaeserve._errors import InvalidInput
from vaeserve.v1 import model_pb2


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table that a model was trained on: model value = (value - mean) / scale.

    Attributes:
        name: its heading.
        mean: over the training rows, in the column's unit.
        scale: standard deviation over the training rows, in the column's unit; 1 where the column
            never varies.
    """

    name: str
    mean: float
    scale: float

    @classmethod
    def from_message(cls, column: model_pb2.Column) -> Self:
        """Read one entry of the manifest."""
        return cls(column.name, column.mean, column.scale)


def to_model(columns: Sequence[Column], table: Any) -> npt.NDArray[np.float32]:
    """Model values of a table; see `ModelInfo.to_model`."""
    if hasattr(table, "keys"):
        missing = [column.name for column in columns if column.name not in table]
        if missing:
            raise InvalidInput(f"the table lacks the columns {', '.join(map(repr, missing))}")
        values = [np.asarray(table[column.name]) for column in columns]
        if len({column.shape for column in values}) != 1:
            raise InvalidInput("the table's columns differ in length")
        table = np.stack(values, axis=-1)
    values_of = _numbers(table, columns)
    return ((values_of - _means(columns)) / _scales(columns)).astype(np.float32)


def from_model(columns: Sequence[Column], rows: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Table values of model values; see `ModelInfo.from_model`."""
    return _numbers(rows, columns) * _scales(columns) + _means(columns)


def _numbers(rows: Any, columns: Sequence[Column]) -> npt.NDArray[np.float64]:
    if not columns:
        raise InvalidInput("this model was trained on no table: it has no columns")
    try:
        numbers = np.asarray(rows).astype(np.float64)
    except (TypeError, ValueError) as exc:
        raise InvalidInput(f"the table holds what is no number: {exc}") from exc
    if numbers.ndim == 0 or numbers.shape[-1] != len(columns):
        raise InvalidInput(
            f"a row has {len(columns)} columns, got an array of shape {list(numbers.shape)}"
        )
    return numbers


def _means(columns: Sequence[Column]) -> npt.NDArray[np.float64]:
    return np.array([column.mean for column in columns])


def _scales(columns: Sequence[Column]) -> npt.NDArray[np.float64]:
    return np.array([column.scale for column in columns])
