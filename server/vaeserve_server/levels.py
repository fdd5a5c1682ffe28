"""Pictures as uint8 levels, 0..255, and as a model's values."""

import numpy as np
import numpy.typing as npt

from vaeserve_server.call import Array, Floats


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


def exact_divisor(levels: Floats) -> np.float32 | None:
    """What a level is to be divided by, where that gives the very bits of its value.

    A division takes a fifth to a third of what looking every level up takes.

    Args:
        levels: float32 [256], the value of each level.

    Returns:
        255 where levels stand for [0, 1]; None where no division does.
    """
    if not levels[255]:
        return None
    divisor = np.float32(255) / levels[255]
    values = np.arange(256, dtype=np.uint8) / divisor
    # Their bits: 0.0 and -0.0 are equal.
    return divisor if values.tobytes() == levels.tobytes() else None


def to_levels(values: Array, scale: float, offset: float) -> npt.NDArray[np.uint8]:
    """The uint8 level nearest to each model value."""
    levels = (values - np.float32(offset)) / np.float32(scale)
    rounded: npt.NDArray[np.uint8] = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return rounded


def levels_and_witness(
    x_hat: Floats, scale: float, offset: float
) -> tuple[npt.NDArray[np.uint8], Floats]:
    """The levels of a batch, and what tells whether they stand for anything.

    Args:
        x_hat: decoded means, [rows, ...].
        scale: of the model's pictures.
        offset: likewise.

    Returns:
        uint8 levels of x_hat's shape, and float32 [rows], NaN where a row is not finite.
    """
    rows = x_hat.reshape(len(x_hat), -1)
    with np.errstate(invalid="ignore"):
        low, high = rows.min(axis=1), rows.max(axis=1)
        return to_levels(x_hat, scale, offset), (high - high) + (low - low)


def picture_levels(scale: float, offset: float) -> npt.NDArray[np.float32]:
    """The model value of each uint8 level.

    In doubles first, so that it is the float nearest to level / 255, as callers compute it.
    """
    return (np.arange(256) * scale + offset).astype(np.float32)
