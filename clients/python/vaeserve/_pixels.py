"""Pixels of 0..255, as picture files hold them, and the levels and values of a model.

A model's level 255 is white, as a rule. But one that was trained on 0 and 1, or on levels 0..16,
has these as its levels, and a picture of them would be black.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from vaeserve._info import ModelInfo

_WHITE = 255
_ON_UNIT_INTERVAL = ("bernoulli", "continuous-bernoulli")


def white_level(info: ModelInfo) -> int:
    """The level that a white pixel is, 1..255, of a model whose rows are pictures.

    It is that of the value 1 where the likelihood is one of values in [0, 1], else 255.
    """
    if info.preprocessing is None or info.likelihood not in _ON_UNIT_INTERVAL:
        return _WHITE
    level = round((1 - info.preprocessing.offset) / info.preprocessing.scale)
    return min(max(level, 1), _WHITE)


def levels_of_pixels(pixels: npt.NDArray[np.uint8], info: ModelInfo) -> npt.NDArray[np.uint8]:
    """Pixels as the nearest of the model's levels."""
    white = white_level(info)
    if white == _WHITE:
        return pixels
    levels: npt.NDArray[np.uint8] = np.rint(pixels * (white / _WHITE)).astype(np.uint8)
    return levels


def pixel_dtype(info: ModelInfo) -> type[np.uint8] | type[np.float32]:
    """What to ask the model's pictures for in, so that `pixels_of` loses nothing.

    Levels are pixels where 255 of them lie between black and white; fewer would show as steps.
    """
    return np.uint8 if white_level(info) == _WHITE else np.float32


def pixels_of(pictures: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Pictures that came in `pixel_dtype`: levels as they are, values in [0, 1] scaled."""
    if pictures.dtype == np.uint8:
        return pictures
    pixels: npt.NDArray[np.uint8] = np.rint(np.clip(pictures, 0, 1) * np.float32(_WHITE)).astype(
        np.uint8
    )
    return pixels
