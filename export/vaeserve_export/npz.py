"""Arrays to the bytes of an .npz archive, and back."""

import io
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def to_bytes(arrays: dict[str, npt.NDArray[Any]]) -> bytes:
    """Equal arrays give equal bytes: numpy writes every member with the zip format's first date."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def from_bytes(content: bytes, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """Read some of an archive's arrays; nothing is unpickled.

    Raises:
        ValueError: no archive, a damaged one, or one without those arrays; one line.
    """
    if not zipfile.is_zipfile(io.BytesIO(content)):  # numpy would advise to unpickle it
        raise ValueError("it is no .npz archive")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in names}
    except Exception as error:  # damaged bytes raise nearly every class there is
        text = str(error).strip() or type(error).__name__
        raise ValueError(text.splitlines()[0]) from error
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):  # numpy gives a member of another kind as bytes
            raise ValueError(f"{name} is no array")  # noqa: TRY004 - of the content, not a caller
    return arrays
