"""From a picture of any size and colour to a row of the model, and back to something to look at.

Pure: arrays in, arrays out.
"""

from math import ceil, sqrt

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

Levels = npt.NDArray[np.uint8]

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_NAMES = {"L": "grey", "RGB": "colour", "RGBA": "colour with transparency"}
_GAP = 1  # pixels between the pictures of a grid, before it is enlarged
_GROUND = 255


def picture_shape(input_shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """Channels, height and width of a model's rows; None where they are no pictures.

    Args:
        input_shape: [channels, height, width] or [height, width]; anything else is no picture.
    """
    if len(input_shape) == 2:
        return 1, input_shape[0], input_shape[1]
    if len(input_shape) == 3 and input_shape[0] in _MODES:
        return input_shape[0], input_shape[1], input_shape[2]
    return None


def fitted(
    picture: Image.Image, input_shape: tuple[int, ...], *, invert: bool = False
) -> tuple[Levels, str]:
    """Make a picture one row of a model: cut to its proportions, resized, in its colours.

    Args:
        picture: of any size and mode.
        input_shape: the model's.
        invert: swap light and dark, for drawings in ink and a model of light on black.

    Returns:
        the row, [*input_shape], and what was done, in words.

    Raises:
        ValueError: the model's rows are no pictures.
    """
    shape = picture_shape(input_shape)
    if shape is None:
        raise ValueError(f"rows of shape {list(input_shape)} are no pictures")
    channels, height, width = shape
    image, done = _plain(ImageOps.exif_transpose(picture), _MODES[channels])
    if image.width * height != image.height * width:
        done.append("cut to its middle")
    if image.size != (width, height):
        done.append(f"resized from {image.width}x{image.height} to {width}x{height}")
        image = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
    row = np.asarray(image)
    if invert:
        done.append("inverted")
        swapped = row ^ np.uint8(255)
        if image.mode == "RGBA":  # how opaque it is stays
            swapped[..., 3] = row[..., 3]
        row = swapped
    if channels > 1:
        row = np.moveaxis(row, -1, 0)
    words = ", ".join(done) or "taken as it is"
    return np.ascontiguousarray(row).reshape(input_shape), words


def _plain(image: Image.Image, mode: str) -> tuple[Image.Image, list[str]]:
    """An image in the model's mode, and what that took."""
    if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow would cut off instead of scale
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    done = []
    if image.has_transparency_data and mode != "RGBA":
        done.append("laid on white")
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("RGB")
    elif image.mode == "P":
        image = image.convert("RGB")
    if image.mode != mode:
        done.append(f"turned to {_NAMES[mode]}")
        image = image.convert(mode)
    return image, done


def image_of(row: Levels) -> Levels:
    """A row as an image: [height, width] if grey, else [height, width, channels].

    Args:
        row: [height, width] or [channels, height, width] levels.
    """
    if row.ndim == 2:
        return row
    return row[0] if len(row) == 1 else np.moveaxis(row, 0, -1)


def grid_of(rows: Levels, columns: int | None = None) -> Levels:
    """Rows as one image, side by side and below each other on white.

    Args:
        rows: [n, *input_shape] levels, n at least 1.
        columns: images side by side; a nearly square grid without.
    """
    images = [image_of(row) for row in rows]
    columns = min(columns or ceil(sqrt(len(images))), len(images))
    lines = ceil(len(images) / columns)
    height, width = images[0].shape[:2]
    shape = (lines * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP)
    grid = np.full((*shape, *images[0].shape[2:]), _GROUND, np.uint8)
    for number, image in enumerate(images):
        top, left = (number // columns) * (height + _GAP), (number % columns) * (width + _GAP)
        grid[top : top + height, left : left + width] = image
    return grid
