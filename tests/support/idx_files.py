"""IDX files, as MNIST comes in."""

import struct

import numpy as np
import numpy.typing as npt


def idx(array: npt.NDArray[np.uint8]) -> bytes:
    """An array of bytes as an IDX file."""
    dims = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + dims + array.tobytes()
