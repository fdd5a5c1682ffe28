"""Bodies of encoder and decoder for any row: layers of equal width."""

import math
from functools import partial

from torch import nn

from vaeserve_export.vae.layers import activated


def encoder(input_shape: tuple[int, ...], hidden: int, layers: int, activation: str) -> nn.Module:
    """Rows [batch, *input_shape] to [batch, hidden]."""
    size = math.prod(input_shape)
    return nn.Sequential(nn.Flatten(1), *_stack(size, hidden, layers, activation))


def decoder(
    input_shape: tuple[int, ...], latent_dim: int, hidden: int, layers: int, activation: str
) -> nn.Module:
    """Latents [batch, latent_dim] to [batch, *input_shape]."""
    return nn.Sequential(
        *_stack(latent_dim, hidden, layers, activation),
        nn.Linear(hidden, math.prod(input_shape)),
        nn.Unflatten(1, input_shape),
    )


def _stack(inputs: int, hidden: int, layers: int, activation: str) -> list[nn.Module]:
    widths = [inputs, *[hidden] * (layers - 1)]
    return [activated(partial(nn.Linear, width, hidden), activation) for width in widths]
