"""Directions in latent space along which an attribute grows.

All of them are scaled so that 1 is the distance between the class means along the direction.

mean difference   m_1 - m_0. White, "Sampling Generative Networks", arXiv:1609.04468, section 3.1;
                  Larsen et al., "Autoencoding beyond pixels", 2016.
balanced          the same after every kind of row (attribute x other labelling) has been given one
                  weight, as White balances by replication (3.1): what comes with the attribute in
                  the data, and is no part of it, cancels.
logistic          the normal of the plane that separates the classes best; a support vector machine
                  in Shen et al., "Interpreting the Latent Space of GANs" (InterFaceGAN), 2020.
                  Made for edits in two ways. Strongly penalised: what orders the rows best (the
                  filter) is not what an edit should add (the pattern: Haufe et al., "On the
                  interpretation of weight vectors", 2014); the penalty keeps it near the mean
                  difference, less what is in the way. And times sigma, dimension by dimension:
                  where posteriors are wide, a step changes the picture little, so that the
                  attribute is bought with the least change of everything else.
"""

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from vaeserve.v1 import directions
from vaeserve.v1.archives import Doubles
from vaeserve.v1.noise import Floats
from vaeserve_export.errors import LatentError

Labels = npt.NDArray[np.int64]

_PENALTY = 0.01  # of half the squared length of the normal, beside the mean loss of a row
_NOTHING_LEFT = 1e-3  # of a direction, as a share of its length, after projection


def mean_difference(mu: Doubles, labels: Labels, weights: Doubles) -> Doubles:
    """m_1 - m_0, the weighted class means; [d].

    Args:
        mu: [rows, d].
        labels: 0 or 1, [rows].
        weights: of the rows, [rows].
    """
    with_it, without = (
        np.average(mu[labels == kind], axis=0, weights=weights[labels == kind]) for kind in (1, 0)
    )
    difference: Doubles = with_it - without
    return difference


def logistic(mu: Doubles, labels: Labels, weights: Doubles, sigma: Doubles) -> Doubles:
    """The normal of a logistic regression's plane times sigma, scaled like the others; [d].

    The latents are taken as they are and not standardised: each dimension's unit is the prior's,
    and a dimension that hardly varies must not get a large part of the direction.

    Args:
        mu: [rows, d].
        labels: 0 or 1, [rows].
        weights: of the rows, [rows].
        sigma: mean standard deviation of the posteriors, [d].
    """
    model = LogisticRegression(C=1 / _PENALTY, max_iter=1000)
    with threadpool_limits(1):
        model.fit(mu, labels, sample_weight=weights / weights.sum())
    return scaled(model.coef_[0] * sigma, mean_difference(mu, labels, weights))


def scaled(direction: Doubles, difference: Doubles) -> Doubles:
    """A direction of the length that the difference of the class means has along it.

    Raises:
        LatentError: the attribute does not grow along it.
    """
    unit = direction / np.linalg.norm(direction)
    length = float(unit @ difference)
    if not length > 0:
        raise LatentError("the attribute does not grow along the direction that was fitted")
    return unit * length


def project_out(direction: Doubles, others: Doubles) -> Doubles:
    """What is left of a direction that must not change others, as an Edit preserves them.

    Args:
        direction: [d].
        others: [others, d].

    Raises:
        LatentError: nothing is left: it lies in the space of the others.
    """
    left = directions.project_out(direction, others.T)
    if np.linalg.norm(left) <= _NOTHING_LEFT * np.linalg.norm(direction):
        raise LatentError("nothing is left of the direction once the others are projected out")
    return left


def auc(mu: Doubles, direction: Doubles, labels: Labels, weights: Doubles) -> float:
    """Area under the ROC curve of rows ordered by their projection; 0.5 is chance."""
    return float(roc_auc_score(labels, mu @ direction, sample_weight=weights))


def cosine(one: Doubles | Floats, other: Doubles | Floats) -> float:
    """Of the angle between two directions: 1 the same, 0 nothing in common."""
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


def balancing_weights(labels: Labels, other: Labels) -> Doubles:
    """Weights under which the other labelling tells nothing about the attribute; [rows].

    Every kind of row, one value of both, has the same total weight, as if its rows had been
    replicated. A value that one class lacks has weight 0: there is nothing to compare.

    Raises:
        LatentError: no value occurs in both classes.
    """
    weights = np.zeros(len(labels))
    for value in np.unique(other):
        cells = [(labels == kind) & (other == value) for kind in (0, 1)]
        if all(cell.any() for cell in cells):
            for cell in cells:
                weights[cell] = 1 / cell.sum()
    if not weights.any():
        raise LatentError(
            "no value of the balance labels occurs both with and without the attribute"
        )
    return weights


def correlation(labels: Labels, other: Labels) -> float:
    """Cramer's V of two labellings: 0 independent, 1 the one follows from the other."""
    table = np.array(
        [
            [((labels == a) & (other == b)).sum() for b in np.unique(other)]
            for a in np.unique(labels)
        ]
    ).astype(np.float64)
    if min(table.shape) < 2:
        return 0.0
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    chi_square = (np.square(table - expected) / expected).sum()
    return float(np.sqrt(chi_square / table.sum() / (min(table.shape) - 1)))
