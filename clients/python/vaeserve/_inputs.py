"""From anything numpy takes to the arrays a request holds, with every check made here. Pure."""

from dataclasses import dataclass
from math import prod
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from vaeserve._errors import InvalidInput
from vaeserve._foreign import PictureLike, fit_by, of_pillow
from vaeserve._info import ModelInfo
from vaeserve._latents import Array, Latents, as_plain, one_space, stacked
from vaeserve.v1 import arrays, tensor_pb2, vae_service_pb2 as pb

_FLOAT32 = np.dtype(np.float32)
_WIRE_TYPES = {_FLOAT32: arrays.FLOAT32, np.dtype(np.uint8): arrays.UINT8}


@dataclass(frozen=True, slots=True)
class Ends:
    """The two ends of a path, or of several.

    Attributes:
        start: first ends, [pairs, ...].
        end: last ends, same shape.
        space: what the rows are.
        latent_space_id: whose latents they are; empty for pictures and where it is not known.
        single: whether the caller gave one pair without a batch axis.
    """

    start: Array
    end: Array
    space: pb.InterpolationSpace.ValueType
    latent_space_id: str
    single: bool


def pictures(x: PictureLike, info: ModelInfo) -> Array:
    """Rows of the model's input.

    Args:
        x: [rows, *input_shape], or one row of input_shape; grey pictures also without their
            channel axis; uint8 levels, or floats or bools as model values. Or Pillow's pictures.
        info: the model.

    Returns:
        [rows, *input_shape] uint8 or float32.

    Raises:
        InvalidInput: another shape, no rows, a dtype that is neither, or uint8 for a model without
            levels.
    """
    if _is_ready(x, info.input_shape):
        return x
    array = as_plain(of_pillow(x, info))
    if array.dtype == np.uint8:
        _check_levels(info)
    else:
        array = _as_float32(array, "pass uint8 levels 0..255, or floats in model values")
    grey = len(info.input_shape) == 3 and info.input_shape[0] == 1
    if grey and array.ndim in {2, 3} and array.shape[-2:] == info.input_shape[1:]:
        # Grey pictures mostly come without a channel axis.
        array = array.reshape(-1, *info.input_shape)
    return _with_batch_axis(array, info.input_shape, info, "input rows")


def latents(z: npt.ArrayLike, info: ModelInfo) -> Array:
    """Rows of the model's latent space.

    Args:
        z: [rows, *latent_shape], or one row of latent_shape.
        info: the model.

    Returns:
        [rows, *latent_shape] float32; `Latents` where these are.

    Raises:
        InvalidInput: another shape, no rows, or integers.
    """
    if _is_ready(z, info.latent_shape):
        return z
    if hasattr(z, "mu"):
        raise InvalidInput("this is a posterior: pass its mu, or what its sample() draws")
    z = stacked(z)
    array = _as_float32(z if isinstance(z, Latents) else as_plain(z), "pass floats")
    return _with_batch_axis(array, info.latent_shape, info, "latent rows")


def ends(start: PictureLike, end: PictureLike, info: ModelInfo) -> Ends:
    """Both ends of a path: `Latents` are latents, everything else is pictures.

    Raises:
        InvalidInput: one of each kind, different shapes, or as `pictures` and `latents`.
    """
    a, b = (
        rows if isinstance(rows, Latents) else as_plain(of_pillow(rows, info))
        for rows in map(stacked, (start, end))
    )
    if isinstance(a, Latents) != isinstance(b, Latents):
        raise InvalidInput("one end holds Latents and the other does not; pass two of a kind")
    if a.shape != b.shape:
        raise InvalidInput(f"the ends must have one shape, got {list(a.shape)} and {list(b.shape)}")
    if not isinstance(a, Latents):
        first, last = pictures(a, info), pictures(b, info)
        single = len(first) == 1 and a.ndim <= len(info.input_shape)
        return Ends(first, last, pb.INTERPOLATION_SPACE_INPUT, "", single)
    return Ends(
        latents(a, info),
        latents(b, info),
        pb.INTERPOLATION_SPACE_LATENT,
        one_space((a, b)),
        a.shape == info.latent_shape,
    )


def picture_type(dtype: npt.DTypeLike, info: ModelInfo) -> tensor_pb2.DataType.ValueType:
    """The wire type of the pictures that come back.

    Raises:
        InvalidInput: neither float32 nor uint8, or uint8 for a model without levels.
    """
    if dtype is np.float32:  # as in most calls; numpy's own look at it takes longest of all here
        return arrays.FLOAT32
    try:
        wanted = np.dtype(dtype)
    except TypeError as exc:
        raise InvalidInput(f"pictures come as float32 or uint8, not as {dtype!r}") from exc
    if wanted not in _WIRE_TYPES:
        raise InvalidInput(f"pictures come as float32 or uint8, not as {wanted}")
    if wanted == np.uint8:
        _check_levels(info)
    return _WIRE_TYPES[wanted]


def _is_ready(rows: object, row_shape: tuple[int, ...]) -> TypeGuard[Array]:
    """Whether these are the rows to send as they are, which is what most callers pass."""
    return (
        (type(rows) is np.ndarray or type(rows) is Latents)
        and rows.dtype is _FLOAT32
        and rows.shape[1:] == row_shape
        and len(rows) > 0
    )


def _check_levels(info: ModelInfo) -> None:
    if info.preprocessing is None:
        raise InvalidInput(f"the rows of {info.name!r} are no pictures: use float32, not uint8")


def _as_float32(array: npt.NDArray[Any], advice: str) -> Array:
    if array.dtype.kind not in "fb":
        raise InvalidInput(f"dtype {array.dtype} is ambiguous or has no meaning here: {advice}")
    return array.astype(np.float32, copy=False)


def _with_batch_axis(array: Array, row_shape: tuple[int, ...], info: ModelInfo, what: str) -> Array:
    rows = array[np.newaxis] if array.shape == row_shape else array
    if rows.shape[1:] != row_shape or rows.ndim == 0:
        wanted = ", ".join(["rows", *map(str, row_shape)])
        advice = _flat(array.shape, row_shape)
        if what == "input rows":
            advice = advice or _unlike_pictures(array.shape, info)
        raise InvalidInput(
            f"{info.name!r} takes {what} of shape [{wanted}], got {list(array.shape)}{advice}"
        )
    if len(rows) == 0:
        raise InvalidInput("there are no rows; pass at least one")
    return rows


def _flat(shape: tuple[int, ...], row_shape: tuple[int, ...]) -> str:
    """How to make rows fit that were flattened, to end an error with; empty for others."""
    if len(row_shape) < 2 or shape[-1:] != (prod(row_shape),):
        return ""
    return f"; give flat rows their shape: x.reshape(-1, {', '.join(map(str, row_shape))})"


def _unlike_pictures(shape: tuple[int, ...], info: ModelInfo) -> str:
    """How to make arrays of a shape fit a model, to end an error with; empty where unknown."""
    if info.latent_shape in (shape, shape[1:]):
        return "; if these are latents, wrap them in vaeserve.Latents"
    row_shape = info.input_shape
    if info.preprocessing is None or len(row_shape) < 2 or len(shape) < 2:
        return ""
    *channels, height, width = row_shape
    if channels and shape[-3:] == (height, width, *channels):
        return "; channels come before height and width: numpy.moveaxis(x, -1, -3)"
    if shape[-2:] == (height, width):
        return ""
    return f"; of each picture, {fit_by('PIL.Image.fromarray(levels)', (width, height))}"
