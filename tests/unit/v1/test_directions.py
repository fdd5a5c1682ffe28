"""Directions that leave others alone."""

import numpy as np
from hypothesis import given, strategies as st

from vaeserve.v1.directions import project_out

SEEDS = st.integers(0, 2**32)


@given(SEEDS, st.integers(1, 3))
def test_what_is_left_is_orthogonal_to_all_others(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    direction, others = rng.normal(size=6), rng.normal(size=(6, count))
    left = project_out(direction, others)
    np.testing.assert_allclose(left @ others, 0, atol=1e-9)
    # And nothing else was taken: what was lies in the others' span.
    taken = direction - left
    np.testing.assert_allclose(others @ np.linalg.pinv(others) @ taken, taken, atol=1e-9)


def test_one_direction_given_twice_is_projected_out_once() -> None:
    direction, first = np.array([1.0, 2, 3, 4]), np.array([1.0, 0, 0, 0])
    for others in ([first], [first, first], [first, -2 * first], [first, np.zeros(4)]):
        left = project_out(direction, np.stack(others, axis=1))
        np.testing.assert_allclose(left, [0, 2, 3, 4], atol=1e-12)


@given(SEEDS)
def test_a_parallel_direction_that_was_stored_takes_nothing_more(seed: int) -> None:
    """As float32 two multiples of a direction are parallel only up to their rounding."""
    rng = np.random.default_rng(seed)
    direction, other = rng.normal(size=6), rng.normal(size=6)
    stored = np.stack([other, other / 3], axis=1).astype(np.float32).astype(np.float64)
    expected = project_out(direction, other[:, None])
    np.testing.assert_allclose(project_out(direction, stored), expected, atol=1e-5)
