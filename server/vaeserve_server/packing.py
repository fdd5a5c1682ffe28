"""The rows of many requests become one batch: one reused buffer, one check, one draw of noise.

What is done here is done once a batch instead of once a request: a numpy call costs about as much
for one row as for fifty.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vaeserve.v1.noise import Block, Stream, standard_normal_blocks
from vaeserve_server.call import Array, Floats, Rows
from vaeserve_server.errors import InvalidArgument, ServiceError

# Probabilities that a caller computed may leave [0, 1] by this much.
_ROUNDING = 1e-5

_LARGEST = float(np.finfo(np.float32).max)
# What float32 makes of them: that is what values are compared with.
_RANGES = {
    False: (-_LARGEST, _LARGEST),
    True: (float(np.float32(-_ROUNDING)), float(np.float32(1 + _ROUNDING))),
}
_FLOAT32 = np.dtype(np.float32)
_UINT8 = np.dtype(np.uint8)

# The bits of a float in [0, 1] are, as a whole number, at most those of 1; of one that is negative,
# larger, infinite or NaN they are more.
_BITS_OF_ONE = int(np.float32(1).view(np.uint32))


class Sent(NamedTuple):
    """Rows that still stand in their message.

    Attributes:
        data: their bytes, little-endian.
        shape: [rows, ...row_shape].
        dtype: float32 or uint8.
    """

    data: memoryview
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def array(self) -> Array:
        """A view of them."""
        return np.ndarray(self.shape, self.dtype, self.data)


class PriorDraws(NamedTuple):
    """Latents still to be drawn: z = temperature * eps(seed, row).

    Attributes:
        block: seed and rows.
        temperature: standard deviation.
    """

    block: Block
    temperature: float

    def __len__(self) -> int:
        return self.block.rows


@dataclass(frozen=True, slots=True)
class AsLevels:
    """Rows whose decoded mean is wanted as uint8 levels.

    Attributes:
        rows: latents, draws, or what else a packer takes.
    """

    rows: Rows

    def __len__(self) -> int:
        return len(self.rows)


def bare(rows: Rows) -> Rows:
    """Rows as a packer takes them, whatever is wanted of their outputs."""
    return rows.rows if type(rows) is AsLevels else rows


class Buffers(NamedTuple):
    """Where rows are packed.

    Attributes:
        values: float32 [max_rows, ...row_shape].
        levels: uint8 of that shape, where the engine takes levels as they are; else None.
    """

    values: Floats
    levels: npt.NDArray[np.uint8] | None = None


def prior_latents(draws: Sequence[PriorDraws], shape: Sequence[int]) -> Floats:
    """Make the latents of many requests at once.

    Returns:
        float32 [rows of all, ...shape].
    """
    eps = standard_normal_blocks(
        [each.block for each in draws], Stream.PRIOR, size=math.prod(shape)
    )
    if any(each.temperature != 1.0 for each in draws):
        scales = [np.full(len(each), each.temperature, np.float32) for each in draws]
        eps *= np.concatenate(scales)[:, None]
    return eps.reshape(-1, *shape)


def value_problem(values: Floats, field: str, *, unit_interval: bool) -> ServiceError | None:
    """What is wrong with one request's values, in words for its caller; None if nothing is.

    Args:
        values: float32, any shape.
        field: where they stand in the request.
        unit_interval: whether only values in [0, 1] are right.
    """
    if _sound(values, *_RANGES[unit_interval]):
        return None
    if not np.isfinite(values).all():
        return InvalidArgument("holds NaN or Inf", reason="NOT_FINITE", field=field)
    return InvalidArgument(
        f"this model takes values in [0, 1], here are {values.min():g} to {values.max():g}; "
        "levels 0..255 go as uint8",
        reason="INVALID_TENSOR",
        field=field,
    )


def model_values(rows: Array, levels: Floats | None) -> Floats:
    """Input rows as an encoder sees them.

    Args:
        rows: float32 values or uint8 levels, any shape.
        levels: float32 [256], the value of each level; None where there are no pictures.
    """
    if rows.dtype != np.uint8:
        return rows.astype(np.float32, copy=False)
    if levels is None:
        raise TypeError("levels of a model without pictures: this is a bug")
    return np.take(levels, rows.astype(np.uint8, copy=False))


class Packer:
    """Joins the rows of a batch in one buffer, and tells whether a model may see them."""

    def __init__(
        self,
        buffers: Buffers,
        *,
        field: str,
        unit_interval: bool = False,
        levels: Floats | None = None,
    ) -> None:
        """Keep the buffers.

        Args:
            buffers: of an engine.
            field: what the rows are called in a request, for messages.
            unit_interval: whether values outside [0, 1] are refused, as the Bernoulli likelihood
                must.
            levels: float32 [256], the value of each uint8 level; None where there are no pictures.
        """
        self._buffers = buffers
        self._field = field
        self._unit_interval = unit_interval
        self._levels = levels
        # Of the same memory. Copies between memory views, and the largest element's place, touch
        # far less of numpy than its joins and reductions do: beside gRPC, which empties the
        # caches, they take a third to a half of the time. See docs/performance.md.
        self._bytes = buffers.values.data.cast("B")
        self._bits = buffers.values.reshape(-1).view(np.uint32)

    def pack(self, parts: Sequence[Rows]) -> Array:
        """Join rows.

        Args:
            parts: float32 [n, ...row_shape], uint8 levels of that shape, as arrays or as sent, or
                draws; at most as many rows in all as the buffers have.

        Returns:
            float32 [rows, ...row_shape], or uint8 if all are levels and there is a buffer for
            them; overwritten by the next call.
        """
        packed = self._buffers.values[: sum(map(len, parts))]
        sent = [part.data for part in parts if type(part) is Sent and part.dtype == _FLOAT32]
        if len(sent) == len(parts):
            begin = 0
            for data in sent:
                end = begin + len(data)
                self._bytes[begin:end] = data
                begin = end
            return packed
        parts = [part.array if type(part) is Sent else part for part in parts]
        floats = [part for part in parts if type(part) is np.ndarray and part.dtype == _FLOAT32]
        if len(floats) == len(parts):
            return np.concatenate(floats, out=packed)
        levels = [part for part in parts if isinstance(part, np.ndarray) and part.dtype == _UINT8]
        if self._buffers.levels is not None and len(levels) == len(parts):
            return np.concatenate(levels, out=self._buffers.levels[: len(packed)])
        begin = 0
        draws: list[PriorDraws] = []
        places: list[slice] = []
        for part in parts:
            place = slice(begin, begin + len(part))
            begin = place.stop
            if isinstance(part, PriorDraws):
                draws.append(part)
                places.append(place)
            elif isinstance(part, np.ndarray):
                packed[place] = model_values(part, self._levels)
            else:
                raise TypeError(f"{type(part).__name__} is no kind of rows: this is a bug")
        if draws:
            latents = prior_latents(draws, packed.shape[1:])
            begin = 0
            for place in places:
                end = begin + place.stop - place.start
                packed[place] = latents[begin:end]
                begin = end
        return packed

    def sound(self, rows: Array) -> bool:
        """Whether every value of what was packed last is finite and in range, as levels are."""
        if rows.dtype == _UINT8:
            return True
        if self._unit_interval:
            bits = self._bits[: rows.size]
            if bits.item(bits.argmax()) <= _BITS_OF_ONE:
                return True  # in one pass; -0.0 and what rounding left take the longer way
        return _sound(rows, *_RANGES[self._unit_interval])

    def problem(self, part: Rows) -> ServiceError | None:
        """What is wrong with one request's rows; see `value_problem`."""
        if type(part) is Sent:
            part = part.array
        if not isinstance(part, np.ndarray) or part.dtype == _UINT8:
            return None
        return value_problem(part, self._field, unit_interval=self._unit_interval)


def finite(values: Array) -> bool:
    """Whether no value is NaN or infinite."""
    return values.dtype == _UINT8 or _sound(values, *_RANGES[False])


def _sound(values: Array, low: float, high: float) -> bool:
    # The place of a NaN counts as that of the least and of the largest; no comparison lets it pass.
    return bool(values.item(values.argmin()) >= low and values.item(values.argmax()) <= high)


def to_levels(values: Array, scale: float, offset: float) -> npt.NDArray[np.uint8]:
    """The uint8 level nearest to each model value."""
    levels = (values - np.float32(offset)) / np.float32(scale)
    rounded: npt.NDArray[np.uint8] = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return rounded


def picture_levels(scale: float, offset: float) -> npt.NDArray[np.float32]:
    """The model value of each uint8 level.

    In doubles first, so that it is the float nearest to level / 255, as callers compute it.
    """
    return (np.arange(256) * scale + offset).astype(np.float32)
