"""Paths between two latents."""

import numpy as np

from vaeserve.v1.noise import Floats

# Below this sine of the angle between two directions the great circle through them is not defined
# well enough.
_PARALLEL = 1e-6


def lerp(start: Floats, end: Floats, steps: int) -> Floats:
    """Straight lines (1 - t) a + t b, t = 0 .. 1.

    Args:
        start: float32 [pairs, size].
        end: float32 [pairs, size].
        steps: points on each line, both ends included, at least 2.

    Returns:
        float32 [pairs, steps, size]; the first and last points are the ends to the bit.
    """
    t = np.linspace(0.0, 1.0, steps)[None, :, None]
    a, b = start.astype(np.float64)[:, None], end.astype(np.float64)[:, None]
    return _with_ends((1.0 - t) * a + t * b, start, end)


def slerp(start: Floats, end: Floats, steps: int) -> Floats:
    """Great circles for the direction, straight lines for the norm.

    After White, "Sampling generative networks", 2016.

    Prior draws of many dimensions lie near a sphere of radius sqrt(size); a straight line between
    two of them cuts through its inside, where the decoder was never trained, a great circle does
    not. White's weights on unnormalised ends let the norm leave the interval between the two when
    the ends differ in length, so here the direction turns on the unit sphere and the norm goes
    straight: |z(t)| = (1 - t)|a| + t|b|.

    Parallel ends, where both forms agree, opposite ends and an end at the origin, where no great
    circle is defined, go straight.

    Args and returns: as `lerp`.
    """
    a, b = start.astype(np.float64), end.astype(np.float64)
    norm_a, norm_b = (np.linalg.norm(ends, axis=1)[:, None] for ends in (a, b))
    with np.errstate(divide="ignore", invalid="ignore"):
        unit_a, unit_b = a / norm_a, b / norm_b
        cosine = np.clip((unit_a * unit_b).sum(axis=1), -1.0, 1.0)
        angle = np.arccos(cosine)
        sine = np.sin(angle)
        t = np.linspace(0.0, 1.0, steps)
        weight_a = np.sin((1.0 - t)[None] * angle[:, None]) / sine[:, None]
        weight_b = np.sin(t[None] * angle[:, None]) / sine[:, None]
        norm = (1.0 - t) * norm_a + t * norm_b
        turned = weight_a[..., None] * unit_a[:, None] + weight_b[..., None] * unit_b[:, None]
        path = _with_ends(norm[..., None] * turned, start, end)
    defined = np.isfinite(angle) & (sine > _PARALLEL)
    return np.where(defined[:, None, None], path, lerp(start, end, steps))


def _with_ends(
    path: np.ndarray[tuple[int, ...], np.dtype[np.float64]], start: Floats, end: Floats
) -> Floats:
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, for whoever looks
        exact = path.astype(np.float32)
    exact[:, 0], exact[:, -1] = start, end
    return exact
