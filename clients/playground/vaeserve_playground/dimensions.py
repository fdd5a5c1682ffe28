"""Which latent dimensions are worth a slider, and how far each goes. Pure."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_REACH = 3.0  # standard deviations of the aggregated posterior, to either side


@dataclass(frozen=True, slots=True)
class Dimension:
    """A latent dimension with a slider.

    Attributes:
        index: its number, in row-major order of latent_shape.
        low: least value of the slider.
        high: greatest value of the slider.
    """

    index: int
    low: float
    high: float


def most_active(
    mu_mean: npt.ArrayLike, mu_variance: npt.ArrayLike, sigma2_mean: npt.ArrayLike, count: int
) -> list[Dimension]:
    """The dimensions that vary most between pictures, most active first.

    The variance over rows of mu is what a dimension says about its picture; one that the posterior
    does not use has almost none (Burda et al. 2016). A slider spans three standard deviations of
    the aggregated posterior, whose variance is mu_variance + sigma2_mean.

    Args:
        mu_mean: mean over rows of mu, [dimensions].
        mu_variance: variance over rows of mu, same shape.
        sigma2_mean: mean over rows of sigma^2, same shape.
        count: most dimensions to return.
    """
    means, variances = np.ravel(mu_mean), np.ravel(mu_variance)
    reach = _REACH * np.sqrt(variances + np.ravel(sigma2_mean))
    chosen = np.argsort(-variances, kind="stable")[:count]
    return [
        Dimension(
            int(index),
            round(float(means[index] - reach[index]), 1),
            round(float(means[index] + reach[index]), 1),
        )
        for index in chosen
    ]


def first(dimensions: int, count: int) -> list[Dimension]:
    """The first dimensions, over the span of the prior: for a model that tells no statistics."""
    return [Dimension(index, -_REACH, _REACH) for index in range(min(dimensions, count))]
