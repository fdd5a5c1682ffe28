"""Latent rows as numpy arrays that know their latent space. Pure."""

from collections.abc import Iterable
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from vaeserve._errors import InvalidInput
from vaeserve._foreign import of_torch

Array = npt.NDArray[Any]


class Latents(np.ndarray[Any, np.dtype[np.float32]]):
    """Latent rows, [..., *latent_shape], that remember whose latents they are.

    A numpy array. What numpy derives from it (slices, sums, joins, `z + 0.5 * direction`) keeps
    `latent_space_id`, and decode and interpolate send that along, so that another model refuses
    them. Latents of two models cannot be mixed. A file of `np.save` holds the numbers alone.

    Args:
        array: anything numpy turns into float32.
        latent_space_id: the model's id (`ModelInfo.latent_space_id`); empty means unknown, and is
            not checked.
    """

    latent_space_id: str

    def __new__(cls, array: npt.ArrayLike, latent_space_id: str = "") -> Self:
        """Wrap without a copy where the array is float32 already."""
        plain = as_plain(array)
        if plain.dtype.kind not in "fiub":
            raise InvalidInput(f"latents are numbers, not {plain.dtype}")
        return cls.of_floats(plain.astype(np.float32, copy=False), latent_space_id)

    @classmethod
    def of_floats(cls, array: Array, latent_space_id: str) -> Self:
        """Wrap an array that is known to be float32, without another look at it."""
        latents = array.view(cls)
        latents.latent_space_id = latent_space_id
        return latents

    def __array_finalize__(self, source: npt.NDArray[Any] | None) -> None:
        """Called by numpy for each array it derives from this one."""
        self.latent_space_id = getattr(source, "latent_space_id", "")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """Called by numpy for arithmetic; refuses latents of two models."""
        space = one_space(inputs)
        targets = options.get("out", ())
        if targets:
            options["out"] = tuple(map(_unmarked, targets))
        result = getattr(ufunc, method)(*map(_unmarked, inputs), **options)
        if len(targets) == 1:
            # As numpy does, hand back what was written to; `z += direction` keeps z.
            if isinstance(targets[0], Latents):
                targets[0].latent_space_id = space or targets[0].latent_space_id
            return targets[0]
        return Latents(result, space) if _is_latent(result) else result

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """Called by numpy for its functions; joined latents are latents."""
        result = super().__array_function__(func, types, args, kwargs)
        if func not in _JOINS or not _is_latent(result):
            return result
        return Latents(result, one_space(args[0] if args else kwargs[_JOINS[func]]))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the id with the numbers; numpy alone would drop it."""
        return type(self).of_floats, (np.asarray(self), self.latent_space_id)


# By what name they know the arrays they join.
_JOINS = {np.concatenate: "arrays", np.stack: "arrays", np.vstack: "tup", np.hstack: "tup"}


def one_space(arrays: Iterable[Any]) -> str:
    """The latent space that all latents among some arrays belong to; empty where none is known.

    Raises:
        InvalidInput: there are two.
    """
    spaces = {array.latent_space_id for array in arrays if isinstance(array, Latents)} - {""}
    if len(spaces) > 1:
        raise InvalidInput("these are latents of two different models; they cannot be mixed")
    return spaces.pop() if spaces else ""


def as_plain(array: npt.ArrayLike) -> Array:
    """Anything numpy takes as a plain array.

    Raises:
        InvalidInput: a masked array, whose masked elements would be sent as if they were sound; or
            what is no array, as lists of different lengths and sparse tensors.
    """
    if isinstance(array, np.ma.MaskedArray):
        raise InvalidInput("masked arrays are not taken: fill what is masked first")
    try:
        return np.asarray(of_torch(array))
    except (TypeError, ValueError, RuntimeError) as exc:  # each of another kind of object
        raise InvalidInput(f"numpy makes no array of this: {exc}") from exc


def stacked(value: Any) -> Any:
    """A list of latents as one array of them; anything else as it is.

    Raises:
        InvalidInput: they are of two models, or of different shapes.
    """
    if not isinstance(value, list | tuple) or not any(isinstance(row, Latents) for row in value):
        return value
    space = one_space(value)
    return Latents([as_plain(row) for row in value], space)


def _unmarked(value: Any) -> Any:
    return np.asarray(value) if isinstance(value, Latents) else value


def _is_latent(result: Any) -> bool:
    """Whether what a ufunc made of latents is latents; masks and numbers are not."""
    return isinstance(result, np.ndarray) and result.ndim > 0 and result.dtype.kind == "f"
