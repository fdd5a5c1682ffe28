"""Golden rows: inputs with the outputs that PyTorch computed, by which a bundle tests itself.

The inputs are the model's own decoded prior samples, not rows of the data: a bundle is passed
around and must not carry anybody's pictures. Samples lie where the model is used all the same.
"""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vaeserve.v1.noise import Stream, standard_normal
from vaeserve_export.bundling.pair import Pair

SEED = 0
MOST_ROWS, FEWEST_ROWS = 256, 64
MOST_BYTES = 8 << 20  # of the file; fewer rows where they are large


def golden_rows(pair: Pair) -> dict[str, npt.NDArray[np.float32]]:
    """Run the model on rows of its own.

    Returns:
        `x` [rows, *input_shape] with its `mu`, `log_var` [rows, *latent_shape]; `z` [rows,
        *latent_shape], of which one half are the first of those mu and the other prior draws;
        `x_hat` [rows, *input_shape], decoded from z.
    """
    arrays = own_rows(pair, row_count(pair))
    return {name: value.numpy() for name, value in arrays.items()}


def row_count(pair: Pair) -> int:
    """How many golden rows a model of these shapes gets."""
    row_bytes = 4 * (2 * math.prod(pair.input_shape) + 3 * math.prod(pair.latent_shape))
    return min(MOST_ROWS, max(FEWEST_ROWS, MOST_BYTES // row_bytes))


def own_rows(pair: Pair, rows: int, *, first_row: int = 0) -> dict[str, Tensor]:
    """The arrays of `golden_rows` for any rows of the model's own.

    Args:
        pair: the model.
        rows: how many.
        first_row: number of the first prior draw; 2 * rows of them are used.
    """
    half = rows // 2
    x = pair.decode(prior_draws(pair, first_row=first_row, rows=rows))
    mu, log_var = pair.encode(x)
    z = torch.cat([mu[:half], prior_draws(pair, first_row=first_row + rows, rows=rows - half)])
    return {"x": x, "mu": mu, "log_var": log_var, "z": z, "x_hat": pair.decode(z)}


def prior_draws(pair: Pair, *, first_row: int, rows: int) -> Tensor:
    """Draws from N(0, I): z [rows, *latent_shape]."""
    size = math.prod(pair.latent_shape)
    draws = standard_normal(SEED, Stream.PRIOR, first_row=first_row, rows=rows, size=size)
    return torch.from_numpy(draws[:, 0]).reshape(rows, *pair.latent_shape)
