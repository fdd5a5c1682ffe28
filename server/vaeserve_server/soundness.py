"""Which values a model may see, and which of its outputs a caller may get.

Found by the places of the smallest and the largest value: beside gRPC, which empties the caches,
that takes half of what minimum and maximum take, or less (docs/performance.md).
"""

import numpy as np
import numpy.typing as npt

from vaeserve_server.call import Array, Floats
from vaeserve_server.errors import InvalidArgument, ServiceError

# Probabilities that a caller computed may leave [0, 1] by this much.
_ROUNDING = 1e-5

_LARGEST = float(np.finfo(np.float32).max)
# What float32 makes of them: that is what values are compared with.
_RANGES = {
    False: (-_LARGEST, _LARGEST),
    True: (float(np.float32(-_ROUNDING)), float(np.float32(1 + _ROUNDING))),
}

OVERFLOW = "the model overflows on these values"
"""What callers are told of outputs that are not finite."""

_BITS_OF_ONE = int(np.float32(1).view(np.uint32))


def in_range(values: Array, *, unit_interval: bool) -> bool:
    """Whether every value is finite and, if that is asked for, in [0, 1].

    Args:
        values: float32, any shape, at least one.
        unit_interval: whether only values in [0, 1] are right.
    """
    low, high = _RANGES[unit_interval]
    # The place of a NaN counts as that of the least and of the largest; no comparison lets it pass.
    return bool(values.item(values.argmin()) >= low and values.item(values.argmax()) <= high)


def surely_in_unit_interval(bits: npt.NDArray[np.uint32]) -> bool:
    """Whether every value is in [0, 1], found in one pass; -0.0 and what rounding left are not.

    The bits of a float in [0, 1] are, as a whole number, at most those of 1; of one that is
    negative, larger, infinite or NaN they are more.

    Args:
        bits: of float32 values, at least one.
    """
    return bool(bits.item(bits.argmax()) <= _BITS_OF_ONE)


def finite(values: Array) -> bool:
    """Whether no value is NaN or infinite, as no level is."""
    return values.dtype == np.uint8 or in_range(values, unit_interval=False)


def sound_levels(values: Floats, *, unit_interval: bool) -> range:
    """Which uint8 levels a model may see: those whose values are in range.

    They are neighbours, since a value is linear in its level.

    Args:
        values: float32 [256], the value of each level.
        unit_interval: whether only values in [0, 1] are right.
    """
    low, high = _RANGES[unit_interval]
    found = np.flatnonzero((values >= low) & (values <= high))
    return range(found[0].item(), found[-1].item() + 1) if len(found) else range(0)


def levels_in_range(rows: Array, sound: range) -> bool:
    """Whether every level is one of those that a model may see.

    Args:
        rows: uint8, any shape, at least one.
        sound: as `sound_levels` has it.
    """
    return rows.item(rows.argmin()) in sound and rows.item(rows.argmax()) in sound


def level_problem(rows: Array, sound: range, field: str) -> ServiceError | None:
    """What is wrong with one request's levels, in words for its caller; None if nothing is.

    Args:
        rows: uint8, any shape.
        sound: as `sound_levels` has it.
        field: where they stand in the request.
    """
    if levels_in_range(rows, sound):
        return None
    takes = f"uint8 levels {sound[0]} to {sound[-1]}" if sound else "no uint8 levels"
    return InvalidArgument(
        f"this model takes {takes}, here are {rows.min()} to {rows.max()}: "
        "the values of others are outside [0, 1]; values in [0, 1] go as float32",
        reason="INVALID_TENSOR",
        field=field,
    )


def value_problem(values: Floats, field: str, *, unit_interval: bool) -> ServiceError | None:
    """What is wrong with one request's values, in words for its caller; None if nothing is.

    Args:
        values: float32, any shape.
        field: where they stand in the request.
        unit_interval: whether only values in [0, 1] are right.
    """
    if in_range(values, unit_interval=unit_interval):
        return None
    if not np.isfinite(values).all():
        return InvalidArgument("holds NaN or Inf", reason="NOT_FINITE", field=field)
    return InvalidArgument(
        f"this model takes values in [0, 1], here are {values.min():g} to {values.max():g}; "
        "levels 0..255 go as uint8",
        reason="INVALID_TENSOR",
        field=field,
    )


def check_computed(values: Array, field: str | None = None) -> None:
    """Refuse what was computed of a request and came out too large for float32.

    Args:
        values: any shape, at least one.
        field: where the values that led to them stand in the request, if one field has them.

    Raises:
        InvalidArgument: one is NaN or infinite.
    """
    if not finite(values):
        raise InvalidArgument(OVERFLOW, reason="NOT_FINITE", field=field)
