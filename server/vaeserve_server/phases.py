"""The runs that calls are made of, on plain arrays: what is special about a VAE.

`vae` and `oip` know their protocols. Values are checked by the batchers.
"""

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from vaeserve.v1.arrays import FLOAT32, UINT8, Array
from vaeserve.v1.noise import Block, Stream, reparameterise, standard_normal
from vaeserve_server import rows
from vaeserve_server.batcher import Batcher
from vaeserve_server.call import HEAVY, Floats, Heavy, Outputs, Rows, Run
from vaeserve_server.chaining import each_once
from vaeserve_server.levels import model_values
from vaeserve_server.metrics import Metrics
from vaeserve_server.models import Model
from vaeserve_server.nats import reconstruction_nats
from vaeserve_server.soundness import check_computed

Phase = Generator[Run | Heavy, Outputs, Outputs]

HEAVY_FLOATS = 4096
"""Work on more floats than this takes longer than going to another thread with it."""


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
    temperature: float = 1.0


def encoded(vae: Model, values: Array) -> Phase:
    """The posterior (mu, log_var) of rows, float32 values or uint8 levels.

    Raises:
        InvalidArgument: values that the model does not take, or on which it overflowed.
    """
    return run(vae.encoder, values)


def decoded(vae: Model, values: Array) -> Phase:
    """The decoded mean x_hat of latents.

    Raises:
        InvalidArgument: not finite, or the model overflowed.
    """
    return run(vae.decoder, values)


def reconstructed(vae: Model, values: Array, draw: Draw | None, metrics: Metrics) -> Phase:
    """The decoded mean x_hat of rows, through mu or through a draw.

    Raises:
        InvalidArgument: values that the model does not take, or on which it overflowed.
    """
    x_hat = yield from _decoded_again(vae, values, draw)
    if draw is None:  # its buckets are made of rows that were reconstructed so
        if values.size > HEAVY_FLOATS:
            yield HEAVY
        x = model_values(values, vae.levels)
        metrics.reconstructed(vae.info.name, reconstruction_nats(x, x_hat, vae.info))
    return (x_hat,)


def _decoded_again(
    vae: Model, values: Array, draw: Draw | None
) -> Generator[Run | Heavy, Outputs, Floats]:
    eps = None
    if draw is not None:
        block = Block(draw.seed, draw.first_row, len(values))
        noise = yield from posterior_noise(vae, block)
        eps = noise[:, 0] * np.float32(draw.temperature)
    if vae.chain is not None:
        flat = None if eps is None else eps.reshape(len(eps), -1)
        _, x_hat = yield from run(vae.chain, each_once(values, eps=flat))
        return x_hat
    z, log_var = yield from run(vae.encoder, values)
    if eps is not None:
        z = drawn(z, log_var, eps)
    (x_hat,) = yield from run(vae.decoder, z)
    return x_hat


def drawn(mu: Floats, log_var: Floats, eps: Floats) -> Floats:
    """Draws from the posteriors of rows of the field `input`; shapes as `reparameterise`.

    Raises:
        InvalidArgument: sigma, or a draw, is too large for float32.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        z = reparameterise(mu, log_var, eps)
    check_computed(z, "input")
    return z


def pictures(x_hat: Floats, vae: Model, *, levels: bool) -> Array:
    """The decoded mean x_hat as float32 model values or as uint8 levels."""
    return rows.picture_rows(x_hat, UINT8 if levels else FLOAT32, vae)


def run(graph: Batcher, given: Rows) -> Phase:
    """Rows through a graph."""
    return (yield Run(graph, given))


def posterior_noise(
    vae: Model, block: Block, draws: int = 1, *, first_draw: int = 0
) -> Generator[Run | Heavy, Outputs, Floats]:
    """Noise for draws from posteriors, [rows, draws, ...latent_shape]."""
    size = vae.latent_size
    if block.rows * draws * size > HEAVY_FLOATS:
        yield HEAVY
    eps = standard_normal(
        block.seed,
        Stream.POSTERIOR,
        first_row=block.first_row,
        rows=block.rows,
        size=size,
        draws=draws,
        first_draw=first_draw,
    )
    return eps.reshape(block.rows, draws, *vae.latent_shape)
