"""Arrays to the bytes of an .npz archive; `vaeserve.v1.archives` reads them back."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt


def to_bytes(arrays: dict[str, npt.NDArray[Any]]) -> bytes:
    """Equal arrays give equal bytes: numpy writes every member with the zip format's first date."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()
