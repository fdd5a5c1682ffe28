"""One gesture of a visitor as calls of the client, each timed. Pixels in, pixels out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from vaeserve import Generated, Latency, Latents, Model, ModelInfo, Posterior, Score, timed

# The command line's own, not the SDK's: what is to be looked at, of models with other levels too.
from vaeserve._pixels import levels_of_pixels, pixel_dtype, pixels_of
from vaeserve_playground import dimensions
from vaeserve_playground.dimensions import Dimension
from vaeserve_playground.pictures import Levels

_ResultT = TypeVar("_ResultT")


@dataclass(slots=True)
class Stopwatch:
    """Runs calls of a model and keeps where the time of each went.

    Attributes:
        calls: name and latency of each, as the client tells it.
    """

    calls: list[tuple[str, Latency]] = field(default_factory=list)

    def __call__(self, name: str, call: Callable[[], _ResultT]) -> _ResultT:
        """Make one call; one that fails is not kept."""
        with timed() as latencies:
            result = call()
        self.calls += [(name, latency) for latency in latencies]
        return result


@dataclass(frozen=True, slots=True)
class Look:
    """What a model makes of one picture.

    Attributes:
        reconstruction: [*input_shape] pixels.
        posterior: of one row.
        score: of one row.
    """

    reconstruction: Levels
    posterior: Posterior
    score: Score


def look(model: Model, row: Levels, watch: Stopwatch) -> Look:
    """Encode, decode and score one row."""
    levels = levels_of_pixels(row, model.info)
    posterior = watch("encode", lambda: model.encode(levels))
    picture = decode(model, posterior.mu, watch)
    return Look(picture, posterior, watch("score", lambda: model.score(levels)))


def decode(model: Model, z: Latents, watch: Stopwatch) -> Levels:
    """One latent row as a picture, [*input_shape]."""
    dtype = pixel_dtype(model.info)
    row: Levels = pixels_of(watch("decode", lambda: model.decode(z, dtype=dtype)))[0]
    return row


def sample(
    model: Model, n: int, *, seed: int, temperature: float, prior: str, watch: Stopwatch
) -> Levels:
    """Draws from a prior, [n, *input_shape]."""
    dtype = pixel_dtype(model.info)
    return _pixels(
        watch(
            "sample",
            lambda: model.sample(n, seed=seed, temperature=temperature, prior=prior, dtype=dtype),
        )
    )


def walk(
    model: Model, start: Levels, end: Levels, *, steps: int, path: str, watch: Stopwatch
) -> Levels:
    """The way between two rows, [steps, *input_shape]."""
    info = model.info
    ends = levels_of_pixels(start, info), levels_of_pixels(end, info)
    dtype = pixel_dtype(info)
    return _pixels(
        watch(
            "interpolate",
            lambda: model.interpolate(*ends, steps=steps, path=path, dtype=dtype),
        )
    )


def edit(model: Model, z: Latents, amounts: Mapping[str, float], watch: Stopwatch) -> Levels:
    """One latent row moved along attributes, as a picture, [*input_shape]."""
    dtype = pixel_dtype(model.info)
    row: Levels = _pixels(watch("edit", lambda: model.edit(z, amounts, dtype=dtype)))[0]
    return row


def sliders_of(info: ModelInfo, count: int) -> list[Dimension]:
    """The dimensions worth a slider, most active first."""
    known = info.latent_statistics
    if known is None:
        return dimensions.first(int(np.prod(info.latent_shape)), count)
    return dimensions.most_active(known.mu_mean, known.mu_variance, known.sigma2_mean, count)


def middle_of(info: ModelInfo) -> Latents:
    """The mean of the aggregated posterior, or of the prior: where sliders start from."""
    known = info.latent_statistics
    mean = np.zeros(info.latent_shape) if known is None else np.asarray(known.mu_mean)
    return Latents(mean.reshape(info.latent_shape), info.latent_space_id)


def moved(z: Latents, chosen: list[Dimension], values: tuple[float, ...]) -> Latents:
    """Latents with the dimensions of the sliders set to their values."""
    flat = np.array(z, np.float32).ravel()
    flat[[dimension.index for dimension in chosen]] = values
    return Latents(flat.reshape(z.shape), z.latent_space_id)


def _pixels(generated: Generated) -> Levels:
    return pixels_of(np.asarray(generated.pictures))
