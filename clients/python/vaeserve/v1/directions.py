"""Directions in latent space that leave others alone."""

import numpy as np

from vaeserve.v1.noise import Doubles

# Directions are stored as float32, so what differs by less is the same direction: taken for another
# one, its rounding would be projected out, too.
_ROUNDING = 1e-6


def project_out(direction: Doubles, others: Doubles) -> Doubles:
    """What is left of a direction that must not change others: n_1 - (n_1 . n_2) n_2 for one.

    Conditional manipulation (Shen et al. 2020, InterFaceGAN, section 2.2), for any number of
    others, which may be parallel to each other: the nearest combination of them is subtracted.

    Args:
        direction: [d].
        others: a column each, [d, others].

    Returns:
        [d], orthogonal to every other one; nothing but rounding where it lies in their span.
    """
    left: Doubles = direction - others @ np.linalg.lstsq(others, direction, rcond=_ROUNDING)[0]
    return left
