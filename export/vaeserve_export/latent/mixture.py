"""Densities over latent space: a Gaussian mixture, and N(0, I) beside it."""

import numpy as np

from vaeserve.v1.archives import Doubles, Mixture
from vaeserve.v1.noise import Floats

_LOG_TWO_PI = float(np.log(2 * np.pi))


def log_density(mixture: Mixture, z: Floats | Doubles) -> Doubles:
    """The logarithm of sum_k w_k N(z; m_k, L_k L_k^T), of rows z [rows, d]; nats, [rows]."""
    z = z.astype(np.float64)
    terms = []
    for weight, mean, factor in zip(*mixture, strict=True):
        whitened = np.linalg.solve(factor, (z - mean).T)
        log_determinant = np.log(np.diagonal(factor)).sum()
        terms.append(np.log(weight) - log_determinant + _log_standard(whitened.T))
    joint = np.stack(terms)
    highest = joint.max(0)
    density: Doubles = highest + np.log(np.exp(joint - highest).sum(0))
    return density


def log_standard(z: Floats | Doubles) -> Doubles:
    """The logarithm of N(z; 0, I), of rows z [rows, d]; nats, [rows]."""
    return _log_standard(z.astype(np.float64))


def draw(mixture: Mixture, rows: int, seed: int) -> Floats:
    """Rows drawn from the mixture, [rows, d]."""
    rng = np.random.default_rng(seed)
    component = rng.choice(len(mixture.weights), size=rows, p=mixture.weights)
    eps = rng.standard_normal((rows, mixture.means.shape[1]))
    z = mixture.means[component] + np.einsum("nij,nj->ni", mixture.cholesky[component], eps)
    return np.asarray(z, np.float32)


def _log_standard(z: Doubles) -> Doubles:
    density: Doubles = -0.5 * (np.square(z).sum(1) + z.shape[1] * _LOG_TWO_PI)
    return density
