import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from vaeserve.v1.noise import Floats
from vaeserve.v1.paths import lerp, slerp

ends = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.integers(2, 5)),
    elements=st.floats(-4, 4, width=32, allow_subnormal=False),
)


@given(start=ends, steps=st.integers(2, 9), data=st.data())
def test_both_ends_are_exact_and_everything_is_finite(
    start: Floats, steps: int, data: st.DataObject
) -> None:
    end = data.draw(hnp.arrays(np.float32, start.shape, elements=st.floats(-4, 4, width=32)))
    for path in (lerp(start, end, steps), slerp(start, end, steps)):
        assert path.shape == (len(start), steps, start.shape[1])
        assert path.dtype == np.float32
        np.testing.assert_array_equal(path[:, 0], start)
        np.testing.assert_array_equal(path[:, -1], end)
        assert np.isfinite(path).all()
    longest = np.maximum(*(np.linalg.norm(ends, axis=1) for ends in (start, end)))
    assert (np.linalg.norm(path, axis=2) <= longest[:, None] + 1e-3).all()


@given(seed=st.integers(0, 10_000), steps=st.integers(3, 12))
def test_slerp_turns_evenly_and_its_norm_goes_straight(seed: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, 1, 16)).astype(np.float32)
    path = slerp(a, b, steps)[0].astype(np.float64)
    norms = np.linalg.norm(path, axis=1)
    np.testing.assert_allclose(norms, np.linspace(norms[0], norms[-1], steps), rtol=1e-5)
    units = path / norms[:, None]
    angles = np.arccos(np.clip((units[1:] * units[:-1]).sum(axis=1), -1, 1))
    np.testing.assert_allclose(angles, angles.mean(), atol=1e-3)


def test_slerp_on_the_circle() -> None:
    a, b = np.array([[2.0, 0.0]], np.float32), np.array([[0.0, 2.0]], np.float32)
    middle = slerp(a, b, 3)[0, 1]
    np.testing.assert_allclose(middle, np.sqrt([2.0, 2.0]), rtol=1e-6)
    np.testing.assert_allclose(lerp(a, b, 3)[0, 1], [1.0, 1.0])


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([1.0, 2.0], [-1.0, -2.0]),
        ([1.0, 2.0], [2.0, 4.0]),
        ([0.0, 0.0], [3.0, 1.0]),
        ([0.0, 0.0], [0.0, 0.0]),
        ([1.0, 2.0], [1.0, 2.0]),
    ],
    ids=["opposite", "parallel", "origin", "both at the origin", "equal"],
)
def test_slerp_goes_straight_where_no_great_circle_is_defined(
    a: list[float], b: list[float]
) -> None:
    start, end = np.array([a], np.float32), np.array([b], np.float32)
    np.testing.assert_array_equal(slerp(start, end, 5), lerp(start, end, 5))


def test_one_bad_pair_leaves_the_others_round() -> None:
    a = np.array([[1.0, 0.0], [0.0, 0.0]], np.float32)
    b = np.array([[0.0, 1.0], [1.0, 0.0]], np.float32)
    np.testing.assert_allclose(slerp(a, b, 3)[0, 1], np.sqrt([0.5, 0.5]), rtol=1e-6)


@given(seed=st.integers(0, 10_000), steps=st.integers(2, 12), factor=st.floats(0.1, 10))
def test_slerp_has_a_monotone_norm_between_its_ends(seed: int, steps: int, factor: float) -> None:
    a, b = np.random.default_rng(seed).normal(size=(2, 1, 6)).astype(np.float32)
    b *= np.float32(factor)
    norms = np.linalg.norm(slerp(a, b, steps)[0].astype(np.float64), axis=1)
    rises = np.diff(norms) * np.sign(norms[-1] - norms[0])
    assert (rises >= -1e-5 * norms.max()).all()


@given(seed=st.integers(0, 10_000), steps=st.integers(2, 12))
def test_a_path_back_is_the_path(seed: int, steps: int) -> None:
    a, b = np.random.default_rng(seed).normal(size=(2, 1, 6)).astype(np.float32)
    for path in (lerp, slerp):
        np.testing.assert_allclose(path(a, b, steps)[:, ::-1], path(b, a, steps), atol=1e-5)


@given(seed=st.integers(0, 10_000), steps=st.integers(2, 12))
def test_lerp_goes_in_even_steps(seed: int, steps: int) -> None:
    a, b = np.random.default_rng(seed).normal(size=(2, 1, 6)).astype(np.float32)
    moves = np.diff(lerp(a, b, steps)[0].astype(np.float64), axis=0)
    np.testing.assert_allclose(moves, np.tile((b - a) / (steps - 1), (steps - 1, 1)), atol=1e-5)
