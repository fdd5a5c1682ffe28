"""What a model's posteriors are like over a set of rows.

KL, active units and the aggregated posterior q(z) = E_x[q(z|x)] tell whether the latents are used,
and whether draws from the prior fall where the decoder has been trained.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vaeserve_export.trained.subject import Subject
from vaeserve_export.trained.terms import terms
from vaeserve_export.vae.calibration import ACTIVE_VARIANCE
from vaeserve_export.vae.model import LOG_VAR_MAX, LOG_VAR_MIN, reparameterise
from vaeserve_export.vae.objective import Terms, batches, kl_by_dimension

PAIR_ROWS = 10_000
"""Rows of the estimate over all pairs of rows, at most."""

_PAIR_ELEMENTS = 1 << 22  # of the matrix of pairs at a time


@dataclass(frozen=True, kw_only=True)
class PosteriorStatistics:
    """Figures over rows; nats a row where they are nats.

    Attributes:
        rows: how many.
        reconstruction_nats: mean -log p(x|z), one draw of z a row.
        reconstruction_at_mu_nats: the same at z = mu.
        kl_nats: mean KL(q(z|x) || N(0, I)).
        negative_elbo_nats: reconstruction_nats + kl_nats, whatever beta was in training.
        kl_per_dimension: the KL's summands, nats, [latent_dim].
        active_units: latent dimensions with Var_x(mu) > 0.01 (Burda et al. 2016, section 5.2).
        mean_sigma: mean of sigma over rows and dimensions.
        median_sigma: the median.
        mean_sigma_active: the mean over active dimensions; NaN if there are none.
        median_sigma_active: the median over active dimensions; NaN if there are none.
        mu_variance: Var_x(mu), [latent_dim].
        aggregated_mean: mean of the aggregated posterior, [latent_dim]; 0 under the prior.
        aggregated_variance: Var_x(mu) + E_x[sigma^2], [latent_dim]; 1 under the prior.
        clamped_low_share: share of log_var elements at the lower end of their range, or below.
        clamped_high_share: share of log_var elements at the upper end, or above.
        mutual_information_nats: I(x; z) under q, by the pairs of up to 10,000 rows; at most the
            logarithm of their number.
        marginal_kl_nats: KL(q(z) || N(0, I)) = KL - I(x; z) (Hoffman and Johnson 2016), of those.
        pair_rows: how many rows those two are of.
    """

    rows: int
    reconstruction_nats: float
    reconstruction_at_mu_nats: float
    kl_nats: float
    negative_elbo_nats: float
    kl_per_dimension: tuple[float, ...]
    active_units: int
    mean_sigma: float
    median_sigma: float
    mean_sigma_active: float
    median_sigma_active: float
    mu_variance: tuple[float, ...]
    aggregated_mean: tuple[float, ...]
    aggregated_variance: tuple[float, ...]
    clamped_low_share: float
    clamped_high_share: float
    mutual_information_nats: float
    marginal_kl_nats: float
    pair_rows: int

    @property
    def clamped_share(self) -> float:
        """Share of log_var elements at either end."""
        return self.clamped_low_share + self.clamped_high_share


def posterior_terms(subject: Subject, x: Tensor, seed: int | None) -> Terms:
    """The terms of the bound, row by row.

    Args:
        subject: the model.
        x: rows [rows, *input_shape].
        seed: of one draw of z a row; None takes z = mu.
    """
    if seed is None:
        return terms(subject, x, None)
    generator = torch.Generator().manual_seed(seed)
    # Batch by batch: the numbers of a generator depend on how many are asked for at once.
    draws = [torch.randn(len(rows), subject.latent_dim, generator=generator) for rows in batches(x)]
    return terms(subject, x, torch.cat(draws))


def posterior_statistics(subject: Subject, x: Tensor, *, seed: int = 0) -> PosteriorStatistics:
    """Measure a model's posteriors.

    Args:
        subject: the model.
        x: rows [rows, *input_shape].
        seed: of the draws.
    """
    return statistics_of(subject, x, posterior_terms(subject, x, seed), seed=seed)


def statistics_of(subject: Subject, x: Tensor, drawn: Terms, *, seed: int) -> PosteriorStatistics:
    """The same from terms that are known already.

    Args:
        subject: the model.
        x: rows [rows, *input_shape].
        drawn: `posterior_terms` of these rows.
        seed: that they were drawn with.
    """
    at_mu = torch.cat(
        [
            subject.reconstruction_nats(rows, mu[:, None])[:, 0]
            for rows, mu in zip(batches(x), batches(drawn.mu, like=x), strict=True)
        ]
    )
    mu, log_var = drawn.mu.double(), drawn.log_var.double()
    sigma = (0.5 * log_var).exp()
    per_dimension = kl_by_dimension(mu, log_var).mean(0)
    mu_variance = mu.var(0, correction=0)
    active = mu_variance > ACTIVE_VARIANCE
    reconstruction, kl = _mean(drawn.reconstruction), float(per_dimension.sum())
    pairs = min(len(x), PAIR_ROWS)
    information = mutual_information(mu[:pairs], log_var[:pairs], seed=seed)
    pair_kl = float(kl_by_dimension(mu[:pairs], log_var[:pairs]).sum(1).mean())
    return PosteriorStatistics(
        rows=len(x),
        reconstruction_nats=reconstruction,
        reconstruction_at_mu_nats=_mean(at_mu),
        kl_nats=kl,
        negative_elbo_nats=reconstruction + kl,
        kl_per_dimension=tuple(per_dimension.tolist()),
        active_units=int(active.sum()),
        mean_sigma=float(sigma.mean()),
        median_sigma=float(sigma.median()),
        mean_sigma_active=float(sigma[:, active].mean()) if active.any() else math.nan,
        median_sigma_active=float(sigma[:, active].median()) if active.any() else math.nan,
        mu_variance=tuple(mu_variance.tolist()),
        aggregated_mean=tuple(mu.mean(0).tolist()),
        aggregated_variance=tuple((mu_variance + log_var.exp().mean(0)).tolist()),
        clamped_low_share=float((log_var <= LOG_VAR_MIN).double().mean()),
        clamped_high_share=float((log_var >= LOG_VAR_MAX).double().mean()),
        mutual_information_nats=information,
        marginal_kl_nats=pair_kl - information,
        pair_rows=pairs,
    )


def mutual_information(mu: Tensor, log_var: Tensor, *, seed: int) -> float:
    """I(x; z) = E_x E_q(z|x)[log q(z|x) - log q(z)], with q(z) the mean of the rows' posteriors.

    One draw of z a row. An estimate from n rows cannot exceed log n. Multiplied out, the squares of
    all pairs are matrix products: with P = 1/sigma^2,
    sum (z - mu)^2 P = sum z^2 P - 2 sum z mu P + sum mu^2 P.

    Args:
        mu: float64 [rows, latent_dim].
        log_var: float64 [rows, latent_dim].
        seed: of the draws.

    Returns:
        Nats.
    """
    generator = torch.Generator().manual_seed(seed)
    z = reparameterise(mu, log_var, torch.randn(mu.shape, generator=generator, dtype=mu.dtype))
    precision = (-log_var).exp()
    own = ((z - mu).square() * precision + log_var).sum(1)
    constant = (mu.square() * precision + log_var).sum(1)
    step = max(1, _PAIR_ELEMENTS // len(mu))
    parts = []
    for part in torch.split(z, step):
        pairs = torch.addmm(constant, part.square(), precision.T)
        pairs.addmm_(part, (mu * precision).T, alpha=-2)
        parts.append(torch.logsumexp(pairs.mul_(-0.5), 1))
    marginal = torch.cat(parts) - math.log(len(mu))
    return float((-0.5 * own - marginal).mean())


def _mean(nats: Tensor) -> float:
    return float(nats.double().mean())
