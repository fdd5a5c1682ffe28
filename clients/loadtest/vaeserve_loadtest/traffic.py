"""The requests of a run, made of seeded random rows or of a file's."""

import zlib
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from vaeserve import AsyncModel, ModelInfo
from vaeserve_loadtest.load import Load, Part

_BLOCK = 4096  # requests whose parts of the mix are drawn at once

Send = Callable[[int], Awaitable[object]]
"""Sends the request of a number, and returns once it was answered."""


class Traffic(NamedTuple):
    """What is sent.

    Attributes:
        senders: one for each part of the mix.
        part_of: which part of the mix the request of a number is.
    """

    senders: Sequence[Send]
    part_of: Callable[[int], int]


def traffic(load: Load, model: AsyncModel, info: ModelInfo) -> Traffic:
    """Make the requests of a run.

    Random rows are uniform in [0, 1) as inputs and standard normal as latents, and every request of
    a part carries the same; those of a file are taken in turn; samples differ by their seed.

    Raises:
        ValueError: more rows than one request may have, which would be measured as several; or a
            file that is not the model's.
    """
    given = None if load.data is None else read_rows(load.data, info)
    senders = [_sender(part, load, model, info, given) for part in load.mix]
    return Traffic(senders, parts_drawn(load))


def parts_drawn(load: Load) -> Callable[[int], int]:
    """Draw which part of the mix each request is, by its number: each draw is independent.

    The same in every process that sends a share of the load.
    """
    shares = np.array([part.share for part in load.mix])
    chances = shares / shares.sum()

    @lru_cache(maxsize=2)  # requests come in turn, but for those around a block's end
    def block(number: int) -> list[int]:
        random = np.random.default_rng((load.seed, number))
        drawn: list[int] = random.choice(len(chances), _BLOCK, p=chances).tolist()
        return drawn

    def part_of(number: int) -> int:
        return block(number // _BLOCK)[number % _BLOCK]

    return part_of


def read_rows(path: Path, info: ModelInfo) -> npt.NDArray[Any]:
    """Read the rows of a file.

    Args:
        path: an .npy file, or the first array of an .npz file that has the model's shape.
        info: of the model.

    Returns:
        float32 or uint8 [rows, *input_shape].

    Raises:
        ValueError: unreadable, or no such array.
    """
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            arrays = [loaded] if isinstance(loaded, np.ndarray) else list(loaded.values())
    except (ValueError, EOFError, KeyError, BadZipFile, zlib.error) as error:
        # Not what numpy says: it advises to unpickle whatever it does not know.
        raise ValueError(f"{str(path)!r} is no .npy or .npz that can be read") from error
    except OSError as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error.strerror or error}") from error
    wanted = tuple(info.input_shape)
    flat = wanted[1:] if wanted[0] == 1 else None  # grey pictures often come without a channel
    levels = info.preprocessing is not None
    for array in arrays:
        if array.ndim and len(array) and array.shape[1:] in {wanted, flat}:
            if array.dtype == np.uint8 and levels:
                return np.ascontiguousarray(array.reshape(-1, *wanted))
            if array.dtype.kind in "fb":
                return np.ascontiguousarray(array.reshape(-1, *wanted), np.float32)
    held = ", ".join(f"{array.dtype} {list(array.shape)}" for array in arrays)
    kinds = "uint8 levels or floats" if levels else "floats"
    raise ValueError(f"{path}: holds {held}; {info.name!r} takes rows of {list(wanted)}, {kinds}")


def _sender(
    part: Part, load: Load, model: AsyncModel, info: ModelInfo, given: npt.NDArray[Any] | None
) -> Send:
    if 0 < info.limits.max_rows < part.rows:
        raise ValueError(
            f"{part.rows} rows are more than the {info.limits.max_rows} that {info.name!r} takes "
            "in one request"
        )
    random = np.random.default_rng(load.seed)
    x = random.random((part.rows, *info.input_shape), np.float32)
    z = random.standard_normal((part.rows, *info.latent_shape), np.float32)

    def inputs(number: int) -> npt.NDArray[Any]:
        if given is None:
            return x
        first = number * part.rows % len(given)
        whole = given[first : first + part.rows]
        if len(whole) == part.rows:
            return whole
        return given.take(range(first, first + part.rows), 0, mode="wrap")

    senders: dict[str, Send] = {
        "encode": lambda number: model.encode(inputs(number)),
        "sample": lambda number: model.sample(part.rows, seed=load.seed + number),
        "decode": lambda _: model.decode(z),
        "reconstruct": lambda number: model.reconstruct(inputs(number)),
        "score": lambda number: model.score(inputs(number)),
    }
    return senders[part.rpc]
