"""The Frechet distance against closed forms, and the classifier whose features it is taken in."""

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings, strategies as st

from vaeserve_export.data.dataset import Dataset
from vaeserve_export.errors import DataError
from vaeserve_export.evaluation.features import FEATURES, FeatureNet, feature_net
from vaeserve_export.evaluation.frechet import frechet_distance

STEPS = 150


def with_moments(
    mean: npt.NDArray[np.float64], root: npt.NDArray[np.float64], rows: int = 64
) -> npt.NDArray[np.float64]:
    """Rows whose mean and covariance are exactly mean and root @ root.T."""
    white = np.random.default_rng(0).normal(size=(rows, len(mean)))
    white -= white.mean(0)
    white = white @ np.linalg.inv(np.linalg.cholesky(np.cov(white, rowvar=False))).T
    return mean + white @ root.T


@pytest.fixture(scope="module")
def net(digits: Dataset) -> FeatureNet:
    return feature_net(digits, steps=STEPS)


def test_of_diagonal_gaussians() -> None:
    # Where covariances commute: |m_a - m_b|^2 + sum (s_a - s_b)^2.
    a = with_moments(np.array([0.0, 1, 2]), np.diag([1.0, 2, 3]))
    b = with_moments(np.array([1.0, 1, 0]), np.diag([2.0, 2, 0.5]), rows=200)
    assert frechet_distance(a, b) == pytest.approx(1 + 4 + 1 + 0 + 6.25)


def test_of_covariances_that_do_not_commute() -> None:
    from scipy.linalg import sqrtm

    root_a, root_b = (np.random.default_rng(seed).normal(size=(4, 4)) for seed in (1, 2))
    cov_a, cov_b = root_a @ root_a.T, root_b @ root_b.T
    expected = np.trace(cov_a + cov_b - 2 * sqrtm(cov_a @ cov_b).real)
    zero = np.zeros(4)
    measured = frechet_distance(with_moments(zero, root_a), with_moments(zero, root_b))
    assert measured == pytest.approx(expected)


def test_of_a_dead_feature() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 3))
    dead = rows * [1, 1, 0]
    assert frechet_distance(dead, dead) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(rows, dead) == pytest.approx(
        np.var(rows[:, 2], ddof=1) + rows[:, 2].mean() ** 2, rel=0.1
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), features=st.integers(1, 6), scale=st.floats(1e-3, 1e3))
def test_is_a_squared_distance(seed: int, features: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    a, b = random.normal(size=(20, features)), 1 + random.normal(size=(30, features))
    distance = frechet_distance(a, b)
    assert distance >= 0
    assert frechet_distance(b, a) == pytest.approx(distance)
    assert frechet_distance(scale * a, scale * b) == pytest.approx(scale**2 * distance, rel=1e-6)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.zeros((5, 2)), np.zeros((5, 3))),
        (np.zeros((1, 2)), np.zeros((5, 2))),
        (np.zeros(5), np.zeros(5)),
        (np.zeros((5, 2)), np.full((5, 2), np.nan)),
    ],
)
def test_refuses(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match=r"feature"):
        frechet_distance(a, b)


def test_the_classifier_learns(net: FeatureNet, digits: Dataset) -> None:
    assert net.accuracy > 0.8
    assert net(torch.from_numpy(digits.x[:3])).shape == (3, FEATURES)


def test_the_distance_grows_with_the_damage(net: FeatureNet, digits: Dataset) -> None:
    x = torch.from_numpy(digits.x)
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    half, other = net(x[::2]), net(x[1::2])
    distances = [frechet_distance(half, other)] + [
        frechet_distance(half, net((1 - share) * x[1::2] + share * noise[1::2]))
        for share in (0.3, 0.6, 1.0)
    ]
    assert distances == sorted(distances)
    assert distances[-1] > 20 * distances[0]


def test_the_classifier_is_repeatable_and_kept(digits: Dataset, tmp_path: Path) -> None:
    few = digits.take(np.arange(300))
    first = feature_net(few, steps=20, cache=tmp_path)
    (file,) = tmp_path.iterdir()
    kept_at = file.stat().st_mtime_ns
    x = torch.from_numpy(few.x)
    for again in (
        feature_net(few, steps=20),
        feature_net(few, steps=20, cache=tmp_path),
    ):
        np.testing.assert_array_equal(again(x), first(x))
        assert again.accuracy == first.accuracy
    assert file.stat().st_mtime_ns == kept_at

    assert few.labels is not None
    renamed = dataclasses.replace(few, labels=few.labels[::-1].copy())
    feature_net(renamed, steps=20, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2

    file.write_bytes(b"damaged")
    np.testing.assert_array_equal(feature_net(few, steps=20, cache=tmp_path)(x), first(x))


def test_the_classifier_of_vectors() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, size=400) * 7 - 3  # any whole numbers
    x = (random.normal(size=(400, 5)) + labels[:, None]).astype(np.float32)
    data = Dataset(x, labels, level=None, name="vectors")
    assert feature_net(data, steps=50).accuracy > 0.9


@pytest.mark.parametrize(
    ("labels", "says"), [(None, "no labels"), (np.zeros(40, np.int64), "one class")]
)
def test_needs_classes(labels: npt.NDArray[np.int64] | None, says: str) -> None:
    data = Dataset(np.zeros((40, 5), np.float32), labels, level=None, name="vectors")
    with pytest.raises(DataError, match=says):
        feature_net(data)
