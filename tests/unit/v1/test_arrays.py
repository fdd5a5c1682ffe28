from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from vaeserve.v1 import arrays, tensor_pb2
from vaeserve.v1.tensor_pb2 import DATA_TYPE_FLOAT32, DATA_TYPE_UINT8, Tensor

dtypes: st.SearchStrategy[np.dtype[Any]] = st.sampled_from(
    [np.dtype("<f4"), np.dtype(">f4"), np.dtype("u1")]
)


@given(
    hnp.arrays(
        dtypes,
        hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5),
    )
)
def test_round_trip_over_the_wire(array: arrays.Array) -> None:
    received = arrays.from_tensor(Tensor.FromString(arrays.to_tensor(array).SerializeToString()))
    assert received.dtype == array.dtype.newbyteorder("<")
    np.testing.assert_array_equal(received, array)


def test_a_strided_array_is_sent_row_major() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)[::2, ::-1].T
    np.testing.assert_array_equal(arrays.from_tensor(arrays.to_tensor(array)), array)


def test_the_bytes_are_little_endian() -> None:
    assert arrays.to_tensor(np.array([1.0], np.float32)).data == b"\x00\x00\x80\x3f"


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.bool_, np.complex64])
def test_other_dtypes_are_not_sent(dtype: type[np.generic]) -> None:
    with pytest.raises(arrays.TensorError, match="use float32 or uint8"):
        arrays.to_tensor(np.zeros(3, dtype))


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (Tensor(shape=[1, 2], data=bytes(8)), "dtype 0 is unknown"),
        (Tensor(dtype=DATA_TYPE_FLOAT32, shape=[1, 2], data=bytes(7)), "takes 8 bytes, got 7"),
        (Tensor(dtype=DATA_TYPE_UINT8, shape=[1, 2], data=bytes(8)), "takes 2 bytes, got 8"),
        (Tensor(dtype=DATA_TYPE_FLOAT32, shape=[2, 3], data=bytes(24)), "does not fit"),
        (Tensor(dtype=DATA_TYPE_FLOAT32, shape=[2], data=bytes(8)), "does not fit"),
        (Tensor(dtype=DATA_TYPE_FLOAT32, shape=[], data=bytes(4)), "does not fit"),
        (Tensor(dtype=DATA_TYPE_FLOAT32, shape=[0, 2]), "no rows"),
        (Tensor(dtype=DATA_TYPE_FLOAT32, shape=[1] * 100_000), r"1, \.\.\.\] does not fit"),
        (Tensor(dtype=DATA_TYPE_FLOAT32, shape=[-1, 2], data=bytes(8)), "negative"),
        # The product is 2^64: zero in 64-bit arithmetic, and far too much to allocate.
        (Tensor(dtype=DATA_TYPE_FLOAT32, shape=[1 << 63 - 1, 2]), "bytes, got 0"),
    ],
)
def test_a_message_that_does_not_hold_rows_is_refused(
    tensor: tensor_pb2.Tensor, message: str
) -> None:
    with pytest.raises(arrays.TensorError, match=message):
        arrays.rows_from_tensor(tensor, (2,))


def test_what_is_read_cannot_be_written() -> None:
    assert not arrays.from_tensor(arrays.to_tensor(np.zeros((2, 2), np.float32))).flags.writeable
