"""Pixels of 0..255 and the levels of models that count otherwise."""

import dataclasses

import numpy as np
import pytest

from unit.client.test_inputs import info
from vaeserve import ModelInfo
from vaeserve._info import Preprocessing
from vaeserve._pixels import levels_of_pixels, pixel_dtype, pixels_of, white_level


def model(scale: float, offset: float = 0.0, likelihood: str = "bernoulli") -> ModelInfo:
    return dataclasses.replace(
        info(), preprocessing=Preprocessing(scale, offset), likelihood=likelihood
    )


@pytest.mark.parametrize(
    ("known", "white"),
    [
        (model(1 / 255), 255),
        (model(1.0), 1),
        (model(1 / 16, likelihood="continuous-bernoulli"), 16),
        (model(1 / 200, 0.5), 100),
        (model(2.0), 1),  # no level is 1; the nearest that is no black
        (model(1.0, likelihood="gaussian"), 255),  # values of 0..255
        (model(2 / 255, -1.0, likelihood="gaussian"), 255),
        (info(levels=False), 255),
    ],
)
def test_the_level_of_white(known: ModelInfo, white: int) -> None:
    assert white_level(known) == white
    pixels = np.arange(256, dtype=np.uint8)
    levels = levels_of_pixels(pixels, known)
    assert levels.dtype == np.uint8
    assert (levels[0], levels[255]) == (0, white)
    assert (np.diff(levels.astype(int)) >= 0).all()


def test_pictures_to_look_at() -> None:
    assert pixel_dtype(model(1 / 255)) is np.uint8
    assert pixel_dtype(model(1.0)) is np.float32
    levels = np.arange(256, dtype=np.uint8)
    assert pixels_of(levels) is levels
    values = (levels / 255).astype(np.float32)
    np.testing.assert_array_equal(pixels_of(values), levels)
    beyond = np.array([-1e-7, 1.0000001], np.float32)
    np.testing.assert_array_equal(pixels_of(beyond), [0, 255])
