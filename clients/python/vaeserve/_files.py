"""Arrays from .npy, .npz, .png and .jpg: files and pipes."""

import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple
from zipfile import BadZipFile

import numpy as np

from vaeserve import _inputs
from vaeserve._errors import InvalidInput
from vaeserve._foreign import levels_of
from vaeserve._info import ModelInfo
from vaeserve._latents import Array, Latents

_GAP = 2  # pixels between the pictures of a grid
_ID = "latent_space_id"
_STARTS = {b"\x93NUMPY": "npy", b"PK": "npz", b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg"}
_PICTURES = ("png", "jpeg")

# What numpy, zipfile and Pillow raise, each for another place where a file is damaged.
_DAMAGED = (
    OSError,
    ValueError,
    EOFError,
    SyntaxError,
    RuntimeError,
    KeyError,
    MemoryError,
    BadZipFile,
    zlib.error,
    struct.error,
)


class Source(NamedTuple):
    """Bytes to read arrays from.

    Attributes:
        name: what messages call it.
        kind: "png", "jpeg", "npy" or "npz"; empty for what is none of them.
        content: where they are, or the bytes themselves.
    """

    name: str
    kind: str
    content: Path | bytes

    @classmethod
    def of_path(cls, path: Path) -> "Source":
        """A file, whose suffix says what it is; else, as of a named pipe, its first bytes do.

        Raises:
            OSError: it cannot be read.
        """
        kind = kind_of(path)
        if kind in _STARTS.values() and path.is_file():
            return cls(str(path), kind, path)
        return cls.of_bytes(str(path), path.read_bytes())

    @classmethod
    def of_bytes(cls, name: str, content: bytes) -> "Source":
        """What came through a pipe; its first bytes say what it is."""
        kinds = [kind for start, kind in _STARTS.items() if content.startswith(start)]
        return cls(name, kinds[0] if kinds else "", content)

    def open(self) -> IO[bytes]:
        """The bytes as a file that can seek.

        Raises:
            OSError: the file cannot be read.
        """
        if isinstance(self.content, bytes):
            return io.BytesIO(self.content)
        return self.content.open("rb")


def read_pictures(sources: Sequence[Source], info: ModelInfo) -> Array:
    """Read input rows.

    Args:
        sources: each a PNG or JPEG with one picture of the model's size, of any colours that
            `levels_of` turns into the model's; npy; or npz with one array or one named x_hat, or as
            training data is: images, x or train.
        info: the model.

    Returns:
        What they hold, one after the other; a picture as uint8 levels of input_shape.

    Raises:
        InvalidInput: one cannot be read as that or does not fit the model, or levels and model
            values are mixed.
    """
    if len(sources) == 1:
        return _rows(sources[0], info)
    parts = [_batch(source, info) for source in sources]
    if len({part.dtype for part in parts}) > 1:
        raise InvalidInput(
            "some of these files hold levels and others model values; pass them one by one"
        )
    return np.concatenate(parts)


def read_latents(source: Source) -> Latents:
    """Read latent rows: npy, or npz with one array or one named latents or mu.

    Raises:
        InvalidInput: it cannot be read as that.
    """
    array, space = _read_arrays(source, ("latents", "mu"))
    return Latents(array, space)


def holds_latents(source: Source) -> bool:
    """Whether it was written with latents and their id, as by `encode` and `sample`."""
    return source.kind == "npz" and _ID in _load(source)


def kind_of(path: Path) -> str:
    """What a path's suffix says, in lower case and without its dot: X.PNG is "png"."""
    return path.suffix.lower().removeprefix(".")


def _batch(source: Source, info: ModelInfo) -> Array:
    """[rows, *input_shape] of one of several sources."""
    rows = _rows(source, info)
    try:
        return _inputs.pictures(rows, info)
    except InvalidInput as exc:
        raise InvalidInput(f"{source.name}: {exc}") from exc


def _rows(source: Source, info: ModelInfo) -> Array:
    if source.kind in _PICTURES:
        return _read_picture(source, info)
    if not source.kind:
        raise InvalidInput(f"{source.name} is no .png, .jpg, .npy or .npz that can be read")
    return _read_arrays(source, ("x_hat", "images", "x", "train"))[0]


def _read_picture(source: Source, info: ModelInfo) -> Array:
    """One picture, [*input_shape] uint8, the way up that its camera noted."""
    from PIL import Image, ImageOps  # noqa: PLC0415  only needed for pictures

    formats = [kind.upper() for kind in _PICTURES]
    try:
        with source.open() as file, Image.open(file, formats=formats) as stored:
            picture = ImageOps.exif_transpose(stored)
    except (*_DAMAGED, Image.DecompressionBombError) as exc:
        raise InvalidInput(f"{source.name} is no picture that can be read") from exc
    return levels_of(picture, info, source.name)


def _read_arrays(source: Source, names: tuple[str, ...]) -> tuple[Array, str]:
    """The array under the first name that is there, or the only one; and the latents' id."""
    arrays = _load(source)
    found = [name for name in names if name in arrays] or list(arrays)
    if not found or (len(found) > 1 and found[0] not in names):
        held = ", ".join(arrays)
        raise InvalidInput(f"{source.name} holds {held}; one must be named {' or '.join(names)}")
    return arrays[found[0]], str(arrays.get(_ID, ""))


def _load(source: Source) -> dict[str, Array]:
    """Every array of an npz by name; the one of an npy has none."""
    try:
        with source.open() as file:
            loaded = np.load(file)
            return {"": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except _DAMAGED as exc:
        raise InvalidInput(f"{source.name} is no .npy or .npz that can be read") from exc
