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
from vaeserve_export.vae.model import Vae

SEED = 0
MOST_ROWS, FEWEST_ROWS = 256, 64
MOST_BYTES = 8 << 20  # of the file; fewer rows where they are large


@torch.no_grad()
def golden_rows(vae: Vae) -> dict[str, npt.NDArray[np.float32]]:
    """Run the model on rows of its own.

    Returns:
        `x` [rows, *input_shape] with its `mu`, `log_var` [rows, latent_dim]; `z` [rows,
        latent_dim], of which one half are the first of those mu and the other prior draws; `x_hat`
        [rows, *input_shape], decoded from z.
    """
    row_bytes = 4 * (2 * math.prod(vae.config.input_shape) + 3 * vae.config.latent_dim)
    rows = min(MOST_ROWS, max(FEWEST_ROWS, MOST_BYTES // row_bytes))
    half = rows // 2
    x = vae.decoder(_prior(vae, first_row=0, rows=rows))
    mu, log_var = vae.encoder(x)
    z = torch.cat([mu[:half], _prior(vae, first_row=rows, rows=rows - half)])
    arrays = {"x": x, "mu": mu, "log_var": log_var, "z": z, "x_hat": vae.decoder(z)}
    return {name: value.numpy() for name, value in arrays.items()}


def _prior(vae: Vae, *, first_row: int, rows: int) -> Tensor:
    size = vae.config.latent_dim
    draws = standard_normal(SEED, Stream.PRIOR, first_row=first_row, rows=rows, size=size)
    return torch.from_numpy(draws[:, 0])
