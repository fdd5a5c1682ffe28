"""The negative log-likelihood by importance sampling.

-log p(x) <= -E[log 1/K sum_k p(x|z_k) p(z_k) / q(z_k|x)], z_k ~ q(z|x)

(Burda et al. 2016, equation 8.) The bound falls with K: K = 1 is the negative ELBO, and for K to
infinity it is -log p(x) itself.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vaeserve_export.trained.subject import Subject
from vaeserve_export.vae.model import reparameterise
from vaeserve_export.vae.objective import batches

SAMPLES = (1, 10, 50, 1000, 5000)
"""Numbers of samples at which a bound is reported; each divides the next."""

_CHUNK_ELEMENTS = 1 << 19  # of decoded rows at a time: 2 MiB stay in a processor's caches


@dataclass(frozen=True)
class Bound:
    """The mean bound over rows at one number of samples.

    Attributes:
        samples: K.
        nats: the bound, nats a row; an upper bound of -log p(x).
        standard_error: of that mean, from the rows' spread; NaN of a single row.
    """

    samples: int
    nats: float
    standard_error: float


def importance_bounds(
    subject: Subject,
    x: Tensor,
    samples: int,
    *,
    seed: int = 0,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Bound]:
    """Bounds at each of SAMPLES up to `samples`, and at `samples`, from one set of draws.

    A bound at K is the mean over the groups of K draws that the row's draws make, so bounds fall
    with K where every K divides the next. A row's noise depends on the seed and its number alone.

    Args:
        subject: the model.
        x: rows [rows, *input_shape].
        samples: most draws a row.
        seed: of the noise.
        progress: told how many rows are done.
    """
    sizes = sorted({*(size for size in SAMPLES if size < samples), samples})
    found = torch.empty(len(x), len(sizes), dtype=torch.float64)
    row = 0
    for rows in batches(x):
        for posterior in zip(rows, *subject.encode(rows), strict=True):
            noise = torch.Generator().manual_seed(_row_seed(seed, row))
            weights = _log_weights(subject, posterior, samples, noise)
            found[row] = torch.stack([_bound(weights, size) for size in sizes])
            row += 1
            progress(row)
    spread = found.std(0) if len(x) > 1 else torch.full((len(sizes),), math.nan)
    errors = (spread / math.sqrt(len(x))).tolist()
    means = found.mean(0).tolist()
    return [Bound(*figures) for figures in zip(sizes, means, errors, strict=True)]


def _bound(log_weights: Tensor, size: int) -> Tensor:
    """The mean of -log mean w over whole groups of `size` draws."""
    whole = len(log_weights) // size * size
    groups = log_weights[:whole].view(-1, size)
    return -(torch.logsumexp(groups, 1) - math.log(size)).mean()


def _log_weights(
    subject: Subject,
    posterior: tuple[Tensor, Tensor, Tensor],
    samples: int,
    generator: torch.Generator,
) -> Tensor:
    """Log p(x|z) p(z) / q(z|x) of draws from the posterior of a row (x, mu, log_var).

    Returns:
        float64 [samples].
    """
    x, mu, log_var = posterior
    # All at once: the numbers that a generator gives depend on how many it is asked for.
    eps = torch.randn(samples, len(mu), generator=generator)
    z = reparameterise(mu, log_var, eps)
    # log p(z) - log q(z|x): the constants of both Gaussians cancel.
    ratio = 0.5 * (log_var + eps.double().square() - z.double().square()).sum(1)
    chunk = max(1, _CHUNK_ELEMENTS // x.numel())
    parts = [subject.reconstruction_nats(x[None], some[None])[0] for some in torch.split(z, chunk)]
    return ratio - torch.cat(parts).double()


def _row_seed(seed: int, row: int) -> int:
    return int(np.random.SeedSequence([seed, row]).generate_state(1, np.uint64)[0])
