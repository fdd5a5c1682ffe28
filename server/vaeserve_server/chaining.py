"""What a request wants of a chain: rows to encode, and the latents to decode made of them.

Reconstruct, Edit and Interpolate of inputs are of one form. With q(z|x) = N(mu, sigma^2) of the
encoded rows,

    drawn = mu + sigma * eps
    z     = first_weight * drawn[first] + second_weight * drawn[second] + move
    x_hat = decoder(z)

A reconstruction takes each row once (weight 1, and 0 of the second); eps is 0 where it goes through
the mean. An edit moves. A straight path weights its two ends. (A great circle needs the angle
between them, whose arc cosine CUDA's kernels lack: it goes by the host.)
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vaeserve_server.call import Array, Floats


@dataclass(frozen=True, slots=True, eq=False)
class Chained:
    """One request's rows, and what its latents are to be.

    Attributes:
        x: float32 values or uint8 levels, [encoded, ...input_shape].
        eps: float32 [encoded, latent size], noise in units of sigma; None for the mean.
        first: int32 [rows], which encoded row.
        second: int32 [rows], likewise.
        first_weight: float32 [rows].
        second_weight: float32 [rows].
        move: float32 [latent size], added to every latent; None for no move.
    """

    x: Array
    eps: Floats | None
    first: npt.NDArray[np.int32]
    second: npt.NDArray[np.int32]
    first_weight: Floats
    second_weight: Floats
    move: Floats | None = None

    def __len__(self) -> int:
        """Rows that are decoded; no fewer than are encoded."""
        return len(self.first)


def each_once(x: Array, *, eps: Floats | None = None, move: Floats | None = None) -> Chained:
    """Every row decoded once."""
    rows = np.arange(len(x), dtype=np.int32)
    ones = np.ones(len(x), np.float32)
    return Chained(x, eps, rows, rows, ones, np.zeros_like(ones), move)


def straight_paths(x: Array, steps: int) -> Chained:
    """Straight paths from each row of the first half of `x` to its partner in the second half."""
    pairs = len(x) // 2
    first = np.repeat(np.arange(pairs, dtype=np.int32), steps)
    t = np.tile(np.linspace(0.0, 1.0, steps), pairs)
    return Chained(x, None, first, first + pairs, (1 - t).astype(np.float32), t.astype(np.float32))
