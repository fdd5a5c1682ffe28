"""Pictures of Pillow and tensors of PyTorch as numpy arrays, where the caller has these installed.

Neither is ever imported for a look at what the caller passed: whoever holds such an object has
imported its package.
"""

import struct
import sys
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from vaeserve._errors import InvalidInput
from vaeserve._info import ModelInfo
from vaeserve._pixels import levels_of_pixels

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's names of 8-bit pictures, by number of channels."""

_DEEP = ("I", "F")  # first letters of Pillow's modes of more than 8 bits
_ORIENTATION = 0x0112  # EXIF's tag; 1 is upright


class Picture(Protocol):
    """What type checkers know a picture of Pillow by."""

    @property
    def __array_interface__(self) -> dict[str, Any]: ...


PictureLike = npt.ArrayLike | Picture | Sequence[Picture]
"""Rows as numpy takes them, tensors of PyTorch, a picture of Pillow, or several."""


def of_torch(value: Any) -> Any:
    """A tensor, or a list with tensors in it, as an array on the host; anything else as it is.

    Floats of any width become float32. Gradients and devices are left behind.
    """
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)
    if tensor is None:
        return value
    if isinstance(value, tensor):
        plain = value.detach()
        return (plain.float() if plain.is_floating_point() else plain).cpu().numpy()
    if isinstance(value, list | tuple) and any(isinstance(each, tensor) for each in value):
        return [of_torch(each) for each in value]
    return value


def of_pillow(value: Any, info: ModelInfo) -> Any:
    """A picture, or a list of pictures, as uint8 levels of the model; anything else as it is.

    Args:
        value: whatever the caller passed.
        info: the model.

    Returns:
        [*input_shape] of a picture, [rows, *input_shape] of a list.

    Raises:
        InvalidInput: as `levels_of`, or a list that holds something else as well.
    """
    image = getattr(sys.modules.get("PIL.Image"), "Image", None)
    if image is None:
        return value
    if isinstance(value, image):
        return levels_of(value, info, "the picture")
    if isinstance(value, list | tuple) and any(isinstance(each, image) for each in value):
        if not all(isinstance(each, image) for each in value):
            raise InvalidInput("a list must hold pictures alone, or arrays alone")
        return np.stack(
            [levels_of(each, info, f"picture {number}") for number, each in enumerate(value)]
        )
    return value


def fit_by(picture: str, size: tuple[int, int]) -> str:
    """What makes a picture fit, to end an error with: what training's `resize=` does.

    Args:
        picture: the expression of Pillow for it.
        size: (width, height) that the model takes.
    """
    return f"PIL.ImageOps.fit({picture}, {size}) makes it fit"


def levels_of(picture: Any, info: ModelInfo, name: str) -> npt.NDArray[np.uint8]:
    """One picture of Pillow as a row of the model, the way up that its camera noted.

    Colour becomes grey for a model of grey pictures (ITU-R 601 luma), grey is repeated for a model
    of colour, and alpha that hides nothing is left out or, for a model of four channels, added.
    Nothing is resized.

    Args:
        picture: of any mode.
        info: the model.
        name: what messages call the picture.

    Returns:
        [*input_shape] uint8.

    Raises:
        InvalidInput: another size, transparency that the model has no channel for, more than 8 bits
            a channel, a mode or a file that Pillow cannot read, or a model whose rows are no
            pictures.
    """
    # [height, width] is grey too.
    shape = (1, *info.input_shape) if len(info.input_shape) == 2 else info.input_shape
    mode = MODES.get(shape[0]) if len(shape) == 3 else None
    if mode is None or info.preprocessing is None:
        raise InvalidInput(
            f"{name} is no row of {info.name!r}, whose rows are {list(info.input_shape)} "
            "and no 8-bit pictures; pass arrays"
        )
    _, height, width = shape
    stored, picture = picture, _upright(picture, name)
    if picture.size != (width, height):
        got_width, got_height = picture.size
        # What was turned here must be turned before it is cut, and cutting keeps the camera's note.
        turned = stored.getexif().get(_ORIENTATION, 1) != 1
        expression = "PIL.ImageOps.exif_transpose(picture)" if turned else "picture"
        raise InvalidInput(
            f"{name} is {got_width}x{got_height}, {info.name!r} takes {width}x{height}: "
            f"{fit_by(expression, (width, height))}"
        )
    if picture.mode.startswith(_DEEP):
        raise InvalidInput(
            f"{name} has more than 8 bits (mode {picture.mode}): scale it to 0..255 first"
        )
    if picture.has_transparency_data and mode != "RGBA":
        picture = _converted(picture, "RGBA", name)
        if picture.getchannel("A").getextrema()[0] < 255:
            raise InvalidInput(f"{name} is partly transparent: lay it over a background first")
    levels = levels_of_pixels(np.asarray(_converted(picture, mode, name), np.uint8), info)
    return (levels if mode == "L" else np.moveaxis(levels, -1, 0)).reshape(info.input_shape)


def _upright(picture: Any, name: str) -> Any:
    from PIL import ImageOps  # noqa: PLC0415  Pillow is there, but perhaps not this part of it

    try:
        return ImageOps.exif_transpose(picture)
    except (OSError, ValueError, SyntaxError, struct.error) as exc:  # each for another damage
        raise InvalidInput(f"{name} cannot be read: {exc}") from exc


def _converted(picture: Any, mode: str, name: str) -> Any:
    try:
        return picture.convert(mode)
    except ValueError as exc:
        raise InvalidInput(
            f"{name} has mode {picture.mode}, of which Pillow makes no {mode}: "
            "convert it to RGB or LA first"
        ) from exc
