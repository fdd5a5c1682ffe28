"""Which scores are usual: percentiles on the validation rows, against which a score is placed."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vaeserve_export.vae.model import Vae
from vaeserve_export.vae.objective import Terms, evaluate

ACTIVE_VARIANCE = 0.01
"""A latent dimension is active if Var_x(mu) exceeds this (Burda et al. 2016, section 5.2)."""


def active_units(mu: Tensor) -> int:
    """How many latent dimensions carry information: their mu, [rows, latent_dim], varies."""
    return int((mu.var(0, correction=0) > ACTIVE_VARIANCE).sum())


def measure(vae: Vae, x: Tensor) -> dict[str, npt.NDArray[Any]]:
    """Score percentiles and the aggregated posterior of some rows.

    Everything is decoded from the posterior mean, without noise, as the service scores a row.

    Args:
        vae: the model.
        x: rows [rows, ...].

    Returns:
        The arrays of `summarise`.
    """
    eps = torch.zeros(len(x), vae.config.latent_dim)
    return summarise(evaluate(vae, x, eps, as_served=True))


def summarise(terms: Terms) -> dict[str, npt.NDArray[Any]]:
    """The same from terms that were computed elsewhere, at the posterior mean.

    Returns:
        `percent` 0..100; `kl_nats`, `reconstruction_nats`, `negative_elbo_nats`: the value at
        each of those percentiles, nats per row; `mu_mean`, `mu_variance`, `sigma2_mean`
        [latent_dim]: the aggregated posterior has the mean mu_mean and the variance
        mu_variance + sigma2_mean (0 and 1 where it equals the prior).
    """
    percent = np.arange(101, dtype=np.float64)
    scores = {
        "kl_nats": terms.kl,
        "reconstruction_nats": terms.reconstruction,
        "negative_elbo_nats": terms.reconstruction + terms.kl,
    }
    mu, variance = terms.mu.double(), terms.log_var.double().exp()
    return {
        "percent": percent,
        **{name: np.percentile(nats.double().numpy(), percent) for name, nats in scores.items()},
        "mu_mean": mu.mean(0).numpy(),
        "mu_variance": mu.var(0, correction=0).numpy(),
        "sigma2_mean": variance.mean(0).numpy(),
    }
