"""The runs that a model of the Open Inference Protocol is made of, on plain arrays.

What is special about a VAE is here; `oip` knows the protocol only. Values are checked by the
batchers.
"""

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from vaeserve.v1.arrays import FLOAT32, UINT8, Array
from vaeserve.v1.noise import Stream, reparameterise, standard_normal
from vaeserve_server import rows
from vaeserve_server.batcher import Batcher
from vaeserve_server.call import HEAVY, Floats, Heavy, Outputs, Rows, Run
from vaeserve_server.metrics import Metrics
from vaeserve_server.models import Model
from vaeserve_server.nats import reconstruction_nats
from vaeserve_server.packing import model_values

Phase = Generator[Run | Heavy, Outputs, Outputs]

# Work on more floats than this takes longer than going to another thread with it.
_HEAVY_FLOATS = 4096


@dataclass(frozen=True, slots=True)
class Draw:
    """Noise of one draw a row.

    Attributes:
        seed: of the noise.
        first_row: absolute number of the first row.
        temperature: factor of the noise.
    """

    seed: int
    first_row: int
    temperature: float


def encoded(vae: Model, values: Array) -> Phase:
    """The posterior (mu, log_var) of rows, float32 values or uint8 levels.

    Raises:
        InvalidArgument: values that the model does not take, or on which it overflowed.
    """
    return _run(vae.encoder, values)


def decoded(vae: Model, values: Array) -> Phase:
    """The decoded mean x_hat of latents.

    Raises:
        InvalidArgument: not finite, or the model overflowed.
    """
    return _run(vae.decoder, values)


def reconstructed(vae: Model, values: Array, draw: Draw | None, metrics: Metrics) -> Phase:
    """The decoded mean x_hat of rows, through mu or through a draw.

    Raises:
        InvalidArgument: values that the model does not take, or on which it overflowed.
    """
    z, log_var = yield from _run(vae.encoder, values)
    if draw is not None:
        if z.size > _HEAVY_FLOATS:
            yield HEAVY
        z = reparameterise(z, log_var, _noise(draw, len(z), vae))
    (x_hat,) = yield from _run(vae.decoder, z)
    if values.size > _HEAVY_FLOATS:
        yield HEAVY
    x = model_values(values, vae.levels)
    metrics.reconstructed(vae.info.name, reconstruction_nats(x, x_hat, vae.info))
    return (x_hat,)


def pictures(x_hat: Floats, vae: Model, *, levels: bool) -> Array:
    """The decoded mean x_hat as float32 model values or as uint8 levels."""
    return rows.picture_rows(x_hat, UINT8 if levels else FLOAT32, vae)


def _run(graph: Batcher, given: Rows) -> Phase:
    return (yield Run(graph, given))


def _noise(draw: Draw, count: int, vae: Model) -> Floats:
    eps = standard_normal(
        draw.seed,
        Stream.POSTERIOR,
        first_row=draw.first_row,
        rows=count,
        size=vae.latent_size,
    )
    return eps[:, 0].reshape(count, *vae.latent_shape) * np.float32(draw.temperature)
