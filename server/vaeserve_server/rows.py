"""Between tensors of a request and rows of a graph: checks, uint8 levels, and back."""

import secrets
from collections.abc import Sequence

import numpy as np

from vaeserve.v1 import arrays, model_pb2, tensor_pb2
from vaeserve.v1.noise import FIRST_ROW_LIMIT
from vaeserve_server.call import Floats
from vaeserve_server.errors import InvalidArgument, LatentSpaceMismatch, TooManyRows

# Every client language can hold such a seed exactly, JavaScript's numbers included.
_CHOSEN_SEED_BITS = 53

# Probabilities that a caller computed may leave [0, 1] by this much.
_ROUNDING = 1e-5


def input_rows(tensor: tensor_pb2.Tensor, info: model_pb2.ModelInfo, field: str) -> Floats:
    """Rows for the encoder: float32 model values, or uint8 levels turned into them.

    Returns:
        float32 [rows, ...input_shape], finite, 1 <= rows <= max_rows.

    Raises:
        InvalidArgument: wrong shape, dtype or byte count, not finite, outside [0, 1] where the
            likelihood is Bernoulli, or levels for a model that has no pictures.
        TooManyRows: more than max_rows.
    """
    rows = _checked(tensor, info.input_shape, info, field)
    if rows.dtype == np.float32:
        values = _finite(rows.astype(np.float32, copy=False), field)
        if info.likelihood == model_pb2.LIKELIHOOD_BERNOULLI and not _in_unit_interval(values):
            raise InvalidArgument(
                f"model {info.name!r} takes values in [0, 1], here are {values.min():g} to "
                f"{values.max():g}; levels 0..255 go as uint8",
                reason="INVALID_TENSOR",
                field=field,
            )
        return values
    if not info.HasField("preprocessing"):
        raise InvalidArgument(
            f"model {info.name!r} takes vectors, not uint8 levels; send float32",
            reason="INVALID_TENSOR",
            field=field,
        )
    # In doubles, so that the value is the float nearest to level / 255, as callers compute it.
    units = np.arange(256) * info.preprocessing.scale + info.preprocessing.offset
    return np.take(units.astype(np.float32), rows.astype(np.uint8, copy=False))


def latent_rows(
    tensor: tensor_pb2.Tensor, space: str, info: model_pb2.ModelInfo, field: str
) -> Floats:
    """Rows for the decoder.

    Args:
        tensor: float32 [rows, ...latent_shape].
        space: latent space id that came with it; empty is not checked.
        info: the model.
        field: where the tensor stands in the request.

    Raises:
        LatentSpaceMismatch: the latents are another model's.
        InvalidArgument: wrong shape, dtype or byte count, or not finite.
        TooManyRows: more than max_rows.
    """
    if space and space != info.latent_space_id:
        raise LatentSpaceMismatch(
            f"these latents are of space {space[:64]}; model {info.name!r} version {info.version} "
            f"has {info.latent_space_id}: encode again with this model"
        )
    rows = _checked(tensor, info.latent_shape, info, field)
    if rows.dtype != np.float32:
        raise InvalidArgument("latents are float32", reason="INVALID_TENSOR", field=field)
    return _finite(rows.astype(np.float32, copy=False), field)


def picture_tensor(
    x_hat: Floats, dtype: tensor_pb2.DataType.ValueType, info: model_pb2.ModelInfo
) -> tensor_pb2.Tensor:
    """Decoded means as asked for: float32 model values, or uint8 levels rounded and clipped."""
    if dtype != arrays.UINT8:
        return arrays.to_tensor(x_hat)
    levels = (x_hat - np.float32(info.preprocessing.offset)) / np.float32(info.preprocessing.scale)
    return arrays.to_tensor(np.clip(np.rint(levels), 0, 255).astype(np.uint8))


def check_picture_dtype(dtype: tensor_pb2.DataType.ValueType, info: model_pb2.ModelInfo) -> None:
    """Refuse an output type before anything is run for it.

    Raises:
        InvalidArgument: unknown type, or uint8 of a model that has no pictures.
    """
    if dtype not in (tensor_pb2.DATA_TYPE_UNSPECIFIED, arrays.FLOAT32, arrays.UINT8):
        raise InvalidArgument("unknown dtype", reason="INVALID_OPTION", field="x_hat_dtype")
    if dtype == arrays.UINT8 and not info.HasField("preprocessing"):
        raise InvalidArgument(
            f"model {info.name!r} makes vectors, which have no uint8 form",
            reason="INVALID_OPTION",
            field="x_hat_dtype",
        )


def check_rows(rows: int, info: model_pb2.ModelInfo, field: str) -> None:
    """Hold a row count against the model's limit.

    Raises:
        InvalidArgument: no rows.
        TooManyRows: more than the limit.
    """
    if rows < 1:
        raise InvalidArgument("ask for at least one row", reason="INVALID_OPTION", field=field)
    if rows > info.limits.max_rows:
        raise TooManyRows(
            f"{rows} rows; this model takes at most {info.limits.max_rows} a request, split them",
            field=field,
        )


def check_first_row(first_row: int) -> int:
    """Row numbers end where a row's noise would run into the next draw's.

    Raises:
        InvalidArgument: beyond that.
    """
    if first_row >= FIRST_ROW_LIMIT:
        raise InvalidArgument(
            "first_row must be below 2^40", reason="INVALID_OPTION", field="first_row"
        )
    return first_row


def choose_seed() -> int:
    """A seed for a caller who gave none; returned in the reply."""
    return secrets.randbits(_CHOSEN_SEED_BITS)


def _checked(
    tensor: tensor_pb2.Tensor, shape: Sequence[int], info: model_pb2.ModelInfo, field: str
) -> arrays.Array:
    try:
        rows = arrays.rows_from_tensor(tensor, shape)
    except arrays.TensorError as error:
        raise InvalidArgument(str(error), reason="INVALID_TENSOR", field=field) from error
    check_rows(len(rows), info, field)
    return rows


def check_outputs(*outputs: Floats) -> None:
    """Refuse to answer with numbers that are none.

    Raises:
        InvalidArgument: finite values so large that the model overflowed on them.
    """
    if not all(np.isfinite(output).all() for output in outputs):
        raise InvalidArgument("the model overflows on these values", reason="NOT_FINITE")


def _in_unit_interval(rows: Floats) -> bool:
    return bool(rows.min() >= -_ROUNDING and rows.max() <= 1 + _ROUNDING)


def _finite(rows: Floats, field: str) -> Floats:
    if not np.isfinite(rows).all():
        raise InvalidArgument("holds NaN or Inf", reason="NOT_FINITE", field=field)
    return rows
