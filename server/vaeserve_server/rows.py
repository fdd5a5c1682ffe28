"""Between tensors of a request and rows of a graph: checks, uint8 levels, and back."""

import secrets

import numpy as np

from vaeserve.v1 import arrays, tensor_pb2
from vaeserve.v1.noise import FIRST_ROW_LIMIT
from vaeserve_server.call import Floats, Rows
from vaeserve_server.errors import InvalidArgument, LatentSpaceMismatch, TooManyRows
from vaeserve_server.levels import to_levels
from vaeserve_server.models import Model
from vaeserve_server.packing import AsLevels
from vaeserve_server.soundness import value_problem

# Every client language can hold such a seed exactly, JavaScript's numbers included.
_CHOSEN_SEED_BITS = 53


def input_rows(tensor: tensor_pb2.Tensor, model: Model, field: str) -> arrays.Array:
    """Rows for the encoder as they came: float32 model values or uint8 levels.

    The encoder's batcher checks the values, once a batch, and turns levels into values.

    Returns:
        [rows, ...input_shape], 1 <= rows <= max_rows.

    Raises:
        InvalidArgument: wrong shape, dtype or byte count, or levels for a model without pictures.
        TooManyRows: more than max_rows.
    """
    rows = _checked(tensor, model.input_shape, model, field)
    if rows.dtype == np.uint8 and model.levels is None:
        raise InvalidArgument(
            f"model {model.info.name!r} takes vectors, not uint8 levels; send float32",
            reason="INVALID_TENSOR",
            field=field,
        )
    return rows


def latent_rows(tensor: tensor_pb2.Tensor, space: str, model: Model, field: str) -> arrays.Array:
    """Rows for the decoder, whose batcher checks that they are finite.

    Args:
        tensor: float32 [rows, ...latent_shape].
        space: latent space id that came with it; empty is not checked.
        model: whose latents they must be.
        field: where the tensor stands in the request.

    Raises:
        LatentSpaceMismatch: the latents are another model's.
        InvalidArgument: wrong shape, dtype or byte count.
        TooManyRows: more than max_rows.
    """
    if space and space != model.info.latent_space_id:
        raise LatentSpaceMismatch(
            f"these latents are of space {space[:64]}; model {model.info.name!r} version "
            f"{model.info.version} has {model.info.latent_space_id}: encode again with this model"
        )
    rows = _checked(tensor, model.latent_shape, model, field)
    if rows.dtype != np.float32:
        raise InvalidArgument("latents are float32", reason="INVALID_TENSOR", field=field)
    return rows.astype(np.float32, copy=False)


def check_values(values: Floats, field: str, *, unit_interval: bool) -> None:
    """Refuse values that no model may see; most calls leave that to the batcher.

    Raises:
        InvalidArgument: not finite, or outside [0, 1] where that is asked for.
    """
    problem = value_problem(values, field, unit_interval=unit_interval)
    if problem is not None:
        raise problem


def for_pictures(rows: Rows, dtype: tensor_pb2.DataType.ValueType) -> Rows:
    """Rows for a decoder, which is told if uint8 levels will be all that is made of its outputs."""
    return AsLevels(rows) if dtype == arrays.UINT8 else rows


def picture_rows(
    x_hat: arrays.Array, dtype: tensor_pb2.DataType.ValueType, model: Model
) -> arrays.Array:
    """Decoded means as asked for: float32 model values, or uint8 levels rounded and clipped."""
    if dtype != arrays.UINT8 or x_hat.dtype == np.uint8:
        return x_hat
    preprocessing = model.info.preprocessing
    return to_levels(x_hat, preprocessing.scale, preprocessing.offset)


def check_picture_dtype(dtype: tensor_pb2.DataType.ValueType, model: Model) -> None:
    """Refuse an output type before anything is run for it.

    Raises:
        InvalidArgument: unknown type, or uint8 of a model that has no pictures.
    """
    if dtype == tensor_pb2.DATA_TYPE_UNSPECIFIED:
        return
    if dtype not in (arrays.FLOAT32, arrays.UINT8):
        raise InvalidArgument("unknown dtype", reason="INVALID_OPTION", field="x_hat_dtype")
    if dtype == arrays.UINT8 and model.levels is None:
        raise InvalidArgument(
            f"model {model.info.name!r} makes vectors, not pictures; ask for float32",
            reason="INVALID_OPTION",
            field="x_hat_dtype",
        )


def check_rows(rows: int, model: Model, field: str) -> None:
    """Refuse no rows, and more than the model takes.

    Raises:
        InvalidArgument: no rows.
        TooManyRows: more than the limit.
    """
    if rows < 1:
        raise InvalidArgument("ask for at least one row", reason="INVALID_OPTION", field=field)
    if rows > model.max_rows:
        raise TooManyRows(
            f"{rows} rows; this model takes at most {model.max_rows} a request, split them",
            field=field,
        )


def check_first_row(first_row: int, n: int) -> int:
    """Row numbers end where a row's noise would run into the next draw's.

    Args:
        first_row: number of the first row.
        n: how many rows there are.

    Raises:
        InvalidArgument: the last one's number is beyond that.
    """
    if first_row + max(n, 1) > FIRST_ROW_LIMIT:
        raise InvalidArgument(
            "first_row, and with it the number of every row, must be below 2^40",
            reason="INVALID_OPTION",
            field="first_row",
        )
    return first_row


def choose_seed() -> int:
    """A seed for a caller who gave none; returned in the reply."""
    return secrets.randbits(_CHOSEN_SEED_BITS)


def _checked(
    tensor: tensor_pb2.Tensor, shape: tuple[int, ...], model: Model, field: str
) -> arrays.Array:
    try:
        rows = arrays.rows_from_tensor(tensor, shape)
    except arrays.TensorError as error:
        raise InvalidArgument(str(error), reason="INVALID_TENSOR", field=field) from error
    check_rows(len(rows), model, field)
    return rows
