"""What calls return: numpy arrays and small immutable records around them. Pure."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.mixins import NDArrayOperatorsMixin

from vaeserve._latency import Latency
from vaeserve._latents import Array, Latents
from vaeserve._numbers import whole_number
from vaeserve._seed import seed_or_new
from vaeserve.v1 import noise


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Posterior:
    """q(z|x) = N(mu, diag(exp(log_var))) of each row.

    Attributes:
        mu: means, [rows, *latent_shape].
        log_var: natural logarithms of the variances, same shape.
        draws: draws made by the server, [rows, draws, *latent_shape]; None unless asked for.
        seed: seed of those draws; None without them.
        first_row: absolute number of the first row, which the noise depends on.
        version: model version that answered.
        latency: where the call's time went; None unless made within `timed`.
    """

    mu: Latents
    log_var: Latents
    draws: Latents | None
    seed: int | None
    first_row: int
    version: int
    latency: Latency | None = None

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.mu)

    def __repr__(self) -> str:
        draws = "" if self.draws is None else f", draws={self.draws.shape[1]}"
        shape = f"{list(self.mu.shape)}{draws}{_seeded(self.seed)}"
        return f"<Posterior {shape}, version {self.version}>"

    @property
    def latent_space_id(self) -> str:
        """Identity of the latent space."""
        return self.mu.latent_space_id

    @property
    def std(self) -> Latents:
        """Standard deviations, exp(log_var / 2), [rows, *latent_shape]."""
        return Latents(np.exp(self.log_var * np.float32(0.5)), self.latent_space_id)

    def sample(self, n: int | None = None, *, seed: int | None = None) -> Latents:
        """Draw from the posterior here, with the noise the server would use for the same seed.

        Args:
            n: draws per row; None for one without an axis of its own.
            seed: 0 .. 2^64 - 1; None for a fresh one.

        Returns:
            mu + std * eps: [rows, *latent_shape], or [rows, n, *latent_shape].

        Raises:
            InvalidInput: n below 1, or a seed out of range.
        """
        draws = 1 if n is None else whole_number("n", n, 1, 1 << 32)
        rows, shape = len(self), self.mu.shape[1:]
        eps = noise.standard_normal(
            seed_or_new(seed),
            noise.Stream.POSTERIOR,
            first_row=self.first_row,
            rows=rows,
            size=math.prod(shape),
            draws=draws,
        ).reshape(rows, -1, *shape)
        mu, log_var = np.asarray(self.mu)[:, None], np.asarray(self.log_var)[:, None]
        z = noise.reparameterise(mu, log_var, eps)
        return Latents(z[:, 0] if n is None else z, self.latent_space_id)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Score:
    """How well the model knows each row; every array is float32, [rows].

    All terms are sums over elements and latent dimensions, in nats.

    Attributes:
        reconstruction: -log p(x|z): at mu, or the mean over the draws.
        kl: KL(q(z|x) || N(0, I)).
        negative_elbo: their sum.
        importance_weighted: the importance-weighted bound of -log p(x), nearer to it the more draws
            there are; None without draws.
        percentile: percentage 0..100 of the validation rows whose negative_elbo at mu is below this
            row's.
        typicality: 0..1, near 0 for rows unlike the training data, be they less or more likely: the
            lower of 2 * min(p, 100 - p) / 100 for the percentages p of reconstruction and kl at mu.
        seed: seed of the draws; None without them.
        version: model version that answered.
        latency: where the call's time went; None unless made within `timed`.
    """

    reconstruction: Array
    kl: Array
    negative_elbo: Array
    importance_weighted: Array | None
    percentile: Array
    typicality: Array
    seed: int | None
    version: int
    latency: Latency | None = None

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.kl)

    def __repr__(self) -> str:
        low, high = np.min(self.negative_elbo), np.max(self.negative_elbo)
        nats = f"negative_elbo {low:.4g} .. {high:.4g} nats"
        return f"<Score [{len(self)}], {nats}{_seeded(self.seed)}, version {self.version}>"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Generated(NDArrayOperatorsMixin):
    """Decoded pictures with the latents and the seed they come from.

    Numpy takes it wherever it takes an array, and it indexes, slices, iterates, measures and
    calculates as its pictures do.

    Attributes:
        pictures: means of p(x|z), [rows, *input_shape] or [..., steps, *input_shape]; float32 in
            model values, or uint8 levels. Read-only.
        latents: what was decoded, or None unless asked for. Read-only.
        seed: seed of the draws; None for a path or an edit, which have none.
        latent_space_id: identity of the latent space.
        version: model version that answered.
        latency: where the call's time went; None unless made within `timed`.
    """

    pictures: Array
    latents: Latents | None
    seed: int | None
    latent_space_id: str
    version: int
    latency: Latency | None = None

    def __post_init__(self) -> None:
        self.pictures.setflags(write=False)
        if self.latents is not None:
            self.latents.setflags(write=False)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        """The pictures, for numpy; arguments as in numpy's protocol."""
        return np.array(self.pictures, dtype, copy=copy)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """Called by numpy for arithmetic, which is that of the pictures."""
        if any(isinstance(target, Generated) for target in options.get("out", ())):
            return NotImplemented  # `generated += 1`: the pictures are read-only
        plain = [value.pictures if isinstance(value, Generated) else value for value in inputs]
        return getattr(ufunc, method)(*plain, **options)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle through the constructor, which makes the copied arrays read-only."""
        return type(self), tuple(getattr(self, field.name) for field in fields(self))

    def __getitem__(self, index: Any) -> Any:
        """The same part of the pictures."""
        return self.pictures[index]

    def __iter__(self) -> Iterator[Any]:
        """Over the first axis of the pictures."""
        return iter(self.pictures)

    def __len__(self) -> int:
        """Length of the first axis."""
        return len(self.pictures)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the pictures."""
        return self.pictures.shape

    @property
    def ndim(self) -> int:
        """Number of axes of the pictures."""
        return self.pictures.ndim

    @property
    def size(self) -> int:
        """Number of elements of the pictures."""
        return self.pictures.size

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type of the pictures."""
        return self.pictures.dtype

    def __repr__(self) -> str:
        shape = f"{self.dtype}{list(self.shape)}{_seeded(self.seed)}"
        return f"<Generated {shape}, version {self.version}>"


def _seeded(seed: int | None) -> str:
    return "" if seed is None else f", seed={seed}"
