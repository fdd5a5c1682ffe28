"""Any picture becomes a row of the model, and rows become images."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image

from vaeserve_playground.pictures import fitted, grid_of, image_of, picture_shape


@pytest.mark.parametrize(
    ("input_shape", "expected"),
    [
        ((8, 9), (1, 8, 9)),
        ((1, 8, 9), (1, 8, 9)),
        ((3, 8, 9), (3, 8, 9)),
        ((784,), None),
        ((7, 8, 9), None),
    ],
)
def test_which_rows_are_pictures(
    input_shape: tuple[int, ...], expected: tuple[int, int, int] | None
) -> None:
    assert picture_shape(input_shape) == expected


@given(
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"]),
    shape=st.sampled_from([(5, 6), (1, 5, 6), (3, 7, 4), (4, 3, 3)]),
    invert=st.booleans(),
)
def test_any_picture_fits_any_model(
    width: int, height: int, mode: str, shape: tuple[int, ...], invert: bool
) -> None:
    row, words = fitted(Image.new(mode, (width, height)), shape, invert=invert)
    assert row.shape == shape
    assert row.dtype == np.uint8
    assert words
    assert image_of(row).shape[:2] == shape[-2:]


def test_a_picture_of_the_models_own_kind_is_not_touched() -> None:
    levels = np.arange(30, dtype=np.uint8).reshape(5, 6)
    row, words = fitted(Image.fromarray(levels), (1, 5, 6))
    np.testing.assert_array_equal(row[0], levels)
    assert words == "taken as it is"
    colour = np.arange(90, dtype=np.uint8).reshape(5, 6, 3)
    row, words = fitted(Image.fromarray(colour), (3, 5, 6))
    np.testing.assert_array_equal(image_of(row), colour)
    assert words == "taken as it is"


def test_light_and_dark_change_places_and_opacity_does_not() -> None:
    row, _ = fitted(Image.new("RGBA", (4, 4), (255, 0, 10, 200)), (4, 4, 4), invert=True)
    assert row[:, 0, 0].tolist() == [0, 255, 245, 200]


def test_what_was_done_is_said() -> None:
    picture = Image.new("RGB", (60, 40), "red")
    row, words = fitted(picture, (1, 4, 4), invert=True)
    assert words == "turned to grey, cut to its middle, resized from 60x40 to 4x4, inverted"
    assert np.ptp(row) == 0
    assert row[0, 0, 0] == 255 - 76  # the luma of red


def test_only_the_middle_is_kept() -> None:
    levels = np.zeros((10, 30), np.uint8)
    levels[:, 10:20] = 200
    assert fitted(Image.fromarray(levels), (10, 10))[0].min() == 200


def test_what_is_transparent_is_white() -> None:
    row, words = fitted(Image.new("RGBA", (4, 4), (0, 0, 0, 0)), (4, 4))
    assert (row == 255).all()
    assert "laid on white" in words


def test_sixteen_bits_are_scaled() -> None:
    picture = Image.fromarray(np.full((4, 4), 0x8000, np.uint16))
    assert (fitted(picture, (4, 4))[0] == 0x80).all()


def test_a_vector_is_no_picture() -> None:
    with pytest.raises(ValueError, match="no pictures"):
        fitted(Image.new("L", (4, 4)), (16,))


def test_rows_lie_side_by_side() -> None:
    rows = np.stack([np.full((1, 2, 3), level, np.uint8) for level in (1, 2, 3)])
    grid = grid_of(rows)
    assert grid.shape == (2 * 2 + 1, 2 * 3 + 1)
    assert [grid[0, 0], grid[0, 4], grid[3, 0], grid[3, 4]] == [1, 2, 3, 255]
    assert grid_of(rows, columns=5).shape == (2, 3 * 3 + 2)
    assert grid_of(np.zeros((4, 3, 2, 2), np.uint8)).shape == (5, 5, 3)
