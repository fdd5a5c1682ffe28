"""The Frechet distance between two sets of feature rows, each taken for a Gaussian.

d^2 = |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))        (Heusel et al. 2017, equation 6)

It is the FID where the features are those of Inception; here they are those of a small classifier
of the data itself (features.py), so a figure compares with others of the same classifier only.
"""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]


def frechet_distance(a: Array, b: Array) -> float:
    """The squared distance of the Gaussians with the mean and covariance of two sets of rows.

    It is biased upwards by some features squared over rows: compare only distances from the same
    numbers of rows, and take many more rows than there are features.

    Args:
        a: [rows, features]; at least two rows.
        b: [other rows, features]; at least two rows.

    Returns:
        d^2 in squared units of the features; 0 for equal moments, never negative.

    Raises:
        ValueError: other shapes, or values that are not finite.
    """
    for rows in (a, b):
        if rows.ndim != 2 or len(rows) < 2 or rows.shape[1] != a.shape[1]:
            raise ValueError(f"needs two sets of feature rows, not {a.shape} and {b.shape}")
        if not np.isfinite(rows).all():
            raise ValueError("a feature is NaN or infinite")
    a, b = a.astype(np.float64), b.astype(np.float64)
    cov_a, cov_b = _covariance(a), _covariance(b)
    # tr (C_a C_b)^(1/2) = tr (R C_b R)^(1/2) with R = C_a^(1/2): of a symmetric matrix, whose
    # eigenvalues stay real where a covariance is singular, as those of dead features are.
    root = _square_root(cov_a)
    product = np.linalg.eigvalsh(root @ cov_b @ root).clip(min=0)
    shift = ((a.mean(0) - b.mean(0)) ** 2).sum()
    squared = shift + np.trace(cov_a) + np.trace(cov_b) - 2 * np.sqrt(product).sum()
    return max(0.0, float(squared))


def _covariance(rows: Array) -> Array:
    return np.atleast_2d(np.cov(rows, rowvar=False))


def _square_root(symmetric: Array) -> Array:
    values, vectors = np.linalg.eigh(symmetric)
    root: Array = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    return root
