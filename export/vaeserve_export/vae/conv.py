"""Bodies of encoder and decoder for pictures of any size: 3x3 convolutions that halve them."""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

from torch import nn

from vaeserve_export.vae.layers import activated

_SMALLEST_SIDE = 7  # a picture is halved until its longer side is at most this
_FIRST_CHANNELS, _MOST_CHANNELS = 32, 128

_Shape = tuple[int, int, int]


def encoder(input_shape: _Shape, hidden: int, activation: str) -> nn.Module:
    """Pictures [batch, *input_shape] to [batch, hidden]; each map halves them (rounded up)."""
    shapes = _map_shapes(input_shape)
    maps = [activated(_halving(above, below), activation) for above, below in pairwise(shapes)]
    last = activated(partial(nn.Linear, math.prod(shapes[-1]), hidden), activation)
    return nn.Sequential(*maps, nn.Flatten(1), last)


def decoder(input_shape: _Shape, latent_dim: int, hidden: int, activation: str) -> nn.Module:
    """Latents [batch, latent_dim] to [batch, *input_shape]: the maps in reverse, transposed."""
    shapes = _map_shapes(input_shape)[::-1]
    *inner, last = [_doubling(below, above) for below, above in pairwise(shapes)]
    return nn.Sequential(
        activated(partial(nn.Linear, latent_dim, hidden), activation),
        activated(partial(nn.Linear, hidden, math.prod(shapes[0])), activation),
        nn.Unflatten(1, shapes[0]),
        *[activated(make, activation) for make in inner],
        last(),
    )


def _map_shapes(input_shape: _Shape) -> list[_Shape]:
    """[channels, height, width] from the picture down to the smallest map; at least one halving."""
    _, height, width = input_shape
    shapes = [input_shape]
    channels = _FIRST_CHANNELS
    while len(shapes) == 1 or max(height, width) > _SMALLEST_SIDE:
        height, width = (height + 1) // 2, (width + 1) // 2
        shapes.append((channels, height, width))
        channels = min(2 * channels, _MOST_CHANNELS)
    return shapes


def _halving(above: _Shape, below: _Shape) -> Callable[[], nn.Module]:
    return partial(nn.Conv2d, above[0], below[0], 3, stride=2, padding=1)


def _doubling(below: _Shape, above: _Shape) -> Callable[[], nn.Module]:
    # A side n that was halved to (n + 1) // 2 comes back as n if even sides are padded by one.
    padding = (1 - above[1] % 2, 1 - above[2] % 2)
    return partial(
        nn.ConvTranspose2d, below[0], above[0], 3, stride=2, padding=1, output_padding=padding
    )
