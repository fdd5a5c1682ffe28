"""Per-row terms of the ELBO on numpy rows, for live latent health.

Training has the same formulas on tensors.
"""

import math

import numpy as np

from vaeserve.v1 import model_pb2
from vaeserve_server.call import Floats

# Probabilities of exactly 0 or 1 come from a saturated sigmoid; PyTorch's cross-entropy bounds its
# logarithms alike.
_LOG_FLOOR = -100.0


def kl_nats(mu: Floats, log_var: Floats) -> Floats:
    """KL(N(mu, s^2) || N(0, I)) = 1/2 sum(mu^2 + s^2 - 1 - log s^2).

    Kingma and Welling, "Auto-Encoding Variational Bayes", 2014, appendix B.

    Args:
        mu: [rows, ...].
        log_var: [rows, ...].

    Returns:
        nats, [rows].
    """
    terms = np.square(mu) + np.exp(log_var) - np.float32(1.0) - log_var
    return np.asarray(0.5 * terms.reshape(len(mu), -1).sum(axis=1), np.float32)


def reconstruction_nats(x: Floats, x_hat: Floats, info: model_pb2.ModelInfo) -> Floats:
    """-log p(x|z) under the model's likelihood, summed over the row's elements.

    Args:
        x: [rows, ...], values in [0, 1] for the Bernoulli likelihood.
        x_hat: means of p(x|z), same shape.
        info: says which likelihood.

    Returns:
        nats, [rows].
    """
    if info.likelihood == model_pb2.LIKELIHOOD_BERNOULLI:
        with np.errstate(divide="ignore"):
            log_one = np.maximum(np.log(x_hat), _LOG_FLOOR)
            log_zero = np.maximum(np.log1p(-x_hat), _LOG_FLOOR)
        terms = -(x * log_one + (1.0 - x) * log_zero)
    else:
        variance = info.gaussian_variance
        terms = 0.5 * (np.square(x - x_hat) / variance + math.log(2 * math.pi * variance))
    return np.asarray(terms.reshape(len(x), -1).sum(axis=1), np.float32)
