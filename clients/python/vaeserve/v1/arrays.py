"""Tensors on the wire: numpy arrays to messages and back, with every check on the way in.

Knows dtypes, shapes and byte counts. Does not know models or RPCs: callers say which row shape they
expect.
"""

import math

import numpy as np
import numpy.typing as npt

from vaeserve.v1 import tensor_pb2

FLOAT32 = tensor_pb2.DATA_TYPE_FLOAT32
UINT8 = tensor_pb2.DATA_TYPE_UINT8

_DTYPES: dict[tensor_pb2.DataType.ValueType, np.dtype[np.generic]] = {
    FLOAT32: np.dtype("<f4"),
    UINT8: np.dtype("u1"),
}
_WIRE_TYPES = {dtype: wire for wire, dtype in _DTYPES.items()}

_MOST_DIMENSIONS = 8

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]


class TensorError(ValueError):
    """A tensor message that does not hold what it says, or not what is expected."""


def to_tensor(array: Array) -> tensor_pb2.Tensor:
    """Put an array into a message of its own; arguments and errors as `fill_tensor`."""
    tensor = tensor_pb2.Tensor()
    fill_tensor(tensor, array)
    return tensor


def fill_tensor(tensor: tensor_pb2.Tensor, array: Array) -> None:
    """Put an array into a part of a message.

    A tensor that is made first and then put into a message is copied by way of its serialised form.

    Args:
        tensor: the part, still empty.
        array: float32 or uint8, any shape.

    Raises:
        TensorError: the dtype has no wire form.
    """
    wire = _WIRE_TYPES.get(array.dtype)
    if wire is None:
        little_endian = array.dtype.newbyteorder("<")
        wire = _WIRE_TYPES.get(little_endian)
        if wire is None:
            raise TensorError(f"dtype {array.dtype} cannot be sent; use float32 or uint8")
        array = array.astype(little_endian)
    tensor.dtype = wire
    tensor.shape.extend(array.shape)
    tensor.data = array.tobytes()


def from_tensor(tensor: tensor_pb2.Tensor, *, writable: bool = False) -> Array:
    """Read a message as an array, read-only unless asked otherwise.

    The elements are copied once, out of the message, twice for a writable array, and the byte count
    is compared with Python integers: a shape whose product is huge is refused like any other wrong
    length.

    Returns:
        float32 or uint8 array of the message's shape.

    Raises:
        TensorError: unknown dtype, negative or too many dimensions, or a byte count other than the
            shape asks for.
    """
    sizes = tensor.shape
    if len(sizes) > _MOST_DIMENSIONS:  # the count first: a message may hold millions
        raise TensorError(f"shape has {len(sizes)} dimensions")
    shape = tuple(sizes[:])  # a slice is a list, which is read faster
    if shape and min(shape) < 0:
        raise TensorError(f"shape {list(shape)} has a negative dimension")
    return _elements(tensor, shape, writable=writable)


def rows_from_tensor(tensor: tensor_pb2.Tensor, row_shape: tuple[int, ...]) -> Array:
    """Read a message that must hold rows of a known shape.

    Args:
        tensor: the message, [rows, ...row_shape].
        row_shape: shape of one row.

    Returns:
        float32 or uint8 array [rows, ...row_shape], rows >= 1.

    Raises:
        TensorError: as `from_tensor`, or another row shape, or no rows.
    """
    sizes = tensor.shape
    # The count first: a message may hold millions of dimensions.
    shape = tuple(sizes) if len(sizes) == len(row_shape) + 1 else ()
    if shape[1:] != row_shape or not shape:
        got = [*sizes[:_MOST_DIMENSIONS], *["..."][: len(sizes) > _MOST_DIMENSIONS]]
        raise TensorError(
            f"shape [{', '.join(map(str, got))}] does not fit; "
            f"this model takes [rows, {', '.join(map(str, row_shape))}]"
        )
    if shape[0] < 1:
        negative = f"shape {list(shape)} has a negative dimension"
        raise TensorError(negative if shape[0] else "there are no rows; send at least one")
    return _elements(tensor, shape)


def _elements(
    tensor: tensor_pb2.Tensor, shape: tuple[int, ...], *, writable: bool = False
) -> Array:
    dtype = _DTYPES.get(tensor.dtype)
    if dtype is None:
        raise TensorError(f"dtype {tensor.dtype} is unknown; use FLOAT32 or UINT8")
    expected = math.prod(shape) * dtype.itemsize
    data = tensor.data  # each access makes a new copy
    if len(data) != expected:
        raise TensorError(
            f"shape {list(shape)} of {dtype.name} takes {expected} bytes, got {len(data)}"
        )
    return np.ndarray(shape, dtype, bytearray(data) if writable else data)
