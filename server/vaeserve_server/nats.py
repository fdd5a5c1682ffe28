"""Per-row terms of the ELBO on numpy rows, for scores and live latent health.

Training has the same formulas on tensors.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from vaeserve.v1 import model_pb2
from vaeserve.v1.noise import Doubles, Floats

# A probability nearer to 0 or 1 counts as this one, as it did when the model was calibrated: what a
# sigmoid makes of a logit out there differs from engine to engine.
_MARGIN = np.float32(2**-23)

# |1 - 2 lambda| below this: the normalising constant is better summed than divided.
_SERIES_BELOW = 0.1


def kl_nats(mu: Floats, log_var: Floats) -> Doubles:
    """KL(N(mu, s^2) || N(0, I)) = 1/2 sum(mu^2 + s^2 - 1 - log s^2).

    Kingma and Welling, "Auto-Encoding Variational Bayes", 2014, appendix B.

    Args:
        mu: [rows, ...].
        log_var: [rows, ...].

    Returns:
        nats, [rows].
    """
    return 0.5 * row_sums(np.square(mu) + np.exp(log_var) - np.float32(1.0) - log_var)


def reconstruction_nats(x: Floats, x_hat: Floats, info: model_pb2.ModelInfo) -> Doubles:
    """-log p(x|z) under the model's likelihood, summed over the row's elements.

    Args:
        x: [rows, ...], values in [0, 1] unless the likelihood is Gaussian.
        x_hat: what the decoder returns, same shape.
        info: says which likelihood.

    Returns:
        nats, [rows].
    """
    if info.likelihood == model_pb2.LIKELIHOOD_GAUSSIAN:
        variance = info.gaussian_variance
        return row_sums(0.5 * (np.square(x - x_hat) / variance + math.log(2 * math.pi * variance)))
    p = np.clip(x_hat, _MARGIN, 1 - _MARGIN)
    log_one, log_zero = np.log(p), np.log1p(-p)
    nats = row_sums(-(x * log_one + (np.float32(1.0) - x) * log_zero))
    if info.likelihood == model_pb2.LIKELIHOOD_CONTINUOUS_BERNOULLI:
        nats -= row_sums(log_normaliser(p))
    return nats


def log_normaliser(parameter: Floats) -> Doubles:
    """Log C(lambda) of the continuous Bernoulli, element by element.

    C = 2 artanh(y) / y with y = 1 - 2 lambda, and 2 at lambda = 1/2 (Loaiza-Ganem and Cunningham
    2019, equation 6); 2 artanh(y) = log(1 - lambda) - log(lambda). Near y = 0, where it would be
    0 / 0, the first terms of its series are used: artanh(y) / y = 1 + y^2/3 + y^4/5 + ...

    Args:
        parameter: lambda, between 0 and 1.
    """
    # In doubles: both differences cancel.
    wide = parameter.astype(np.float64)
    y = 1.0 - 2.0 * wide
    square = np.square(y)
    series = np.log1p(square * (1 / 3 + square * (1 / 5 + square * (1 / 7 + square / 9))))
    far = np.where(np.abs(y) < _SERIES_BELOW, 0.5, y)
    twice = np.where(np.abs(y) < _SERIES_BELOW, 1.0, np.log1p(-wide) - np.log(wide))
    return np.asarray(
        np.where(np.abs(y) < _SERIES_BELOW, math.log(2) + series, np.log(twice / far)), np.float64
    )


def row_sums(terms: npt.NDArray[np.floating[Any]]) -> Doubles:
    """The sum of each row's elements, [rows].

    Doubles are made first: a sum that converts as it goes passes through a buffer, and numpy does
    not promise to cut every row alike there; a row's bits must not depend on the rows beside it.
    """
    return np.asarray(terms.reshape(len(terms), -1).astype(np.float64).sum(axis=1), np.float64)
