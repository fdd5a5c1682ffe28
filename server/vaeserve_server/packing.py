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
from vaeserve_server.errors import ServiceError
from vaeserve_server.levels import exact_divisor, model_values
from vaeserve_server.soundness import (
    in_range,
    level_problem,
    levels_in_range,
    sound_levels,
    surely_in_unit_interval,
    value_problem,
)

_FLOAT32 = np.dtype(np.float32)
_UINT8 = np.dtype(np.uint8)


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
        self._sound_levels = range(256)
        if levels is not None:
            self._sound_levels = sound_levels(levels, unit_interval=unit_interval)
        self._every_level = len(self._sound_levels) == 256  # as with 1 / 255: nothing to look at
        # Of the same memory. Copies between memory views, and the largest element's place, touch
        # far less of numpy than its joins and reductions do: beside gRPC, which empties the
        # caches, they take a third to a half of the time. See docs/performance.md.
        self._bytes = buffers.values.data.cast("B")
        self._bits = buffers.values.reshape(-1).view(np.uint32)
        # Levels are turned into values here, all at once, where the engine does not do it.
        self._staged = buffers.levels
        if self._staged is None and levels is not None:
            self._staged = np.empty(buffers.values.shape, np.uint8)
        self._divisor = None if levels is None else exact_divisor(levels)

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
        if _join(parts, _FLOAT32, self._bytes):
            return packed
        if self._staged is not None and _join(parts, _UINT8, self._staged.data.cast("B")):
            return self._of_levels(self._staged[: len(packed)], packed)
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

    def _of_levels(self, staged: Array, packed: Floats) -> Array:
        """Levels as the engine takes them: as they are, or as values in the place for those."""
        if self._levels is None or self._buffers.levels is not None:
            return staged
        if self._divisor is not None:
            return np.divide(staged, self._divisor, out=packed)
        # Every level is in the table; to clip spares a copy of what is written.
        return np.take(self._levels, staged, out=packed, mode="clip")

    def sound(self, rows: Array) -> bool:
        """Whether every value of what was packed last is finite and in range."""
        if rows.dtype == _UINT8:
            return self._every_level or levels_in_range(rows, self._sound_levels)
        if self._unit_interval and surely_in_unit_interval(self._bits[: rows.size]):
            return True
        return in_range(rows, unit_interval=self._unit_interval)

    def problem(self, part: Rows) -> ServiceError | None:
        """What is wrong with one request's rows; see `value_problem` and `level_problem`."""
        if type(part) is Sent:
            part = part.array
        if not isinstance(part, np.ndarray):
            return None
        if part.dtype == _UINT8:
            return level_problem(part, self._sound_levels, self._field)
        return value_problem(part, self._field, unit_interval=self._unit_interval)


def _join(parts: Sequence[Rows], dtype: np.dtype[Any], target: memoryview) -> bool:
    """Copy rows one behind the other, if all of them stand in messages and are of this type."""
    sent = [part.data for part in parts if type(part) is Sent and part.dtype == dtype]
    if len(sent) < len(parts):
        return False
    begin = 0
    for data in sent:
        end = begin + len(data)
        target[begin:end] = data
        begin = end
    return True
