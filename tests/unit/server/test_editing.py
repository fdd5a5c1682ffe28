"""Where an edit moves, and what it leaves alone."""

import numpy as np
import pytest
from hypothesis import assume, given, strategies as st

from vaeserve.v1.noise import Doubles
from vaeserve_server.editing import along
from vaeserve_server.errors import InvalidArgument

NAMES = ("age", "glasses", "hat", "smile")
AMOUNTS = st.dictionaries(st.sampled_from(NAMES[2:]), st.floats(-3, 3))
PRESERVED = st.lists(st.sampled_from(NAMES[:2]), max_size=4)


def directions(seed: int) -> dict[str, Doubles]:
    vectors = np.random.default_rng(seed).normal(size=(len(NAMES), 6))
    return dict(zip(NAMES, vectors, strict=True))


@given(seed=st.integers(0, 999), amounts=AMOUNTS)
def test_without_others_it_is_the_sum(seed: int, amounts: dict[str, float]) -> None:
    there = directions(seed)
    expected = sum((there[name] * amount for name, amount in amounts.items()), np.zeros(6))
    np.testing.assert_allclose(along(there, amounts, ()), expected, atol=1e-12)


@given(seed=st.integers(0, 999), amounts=AMOUNTS, preserve=PRESERVED)
def test_it_is_orthogonal_to_all_that_is_preserved_and_near_the_sum(
    seed: int, amounts: dict[str, float], preserve: list[str]
) -> None:
    there = directions(seed)
    move = along(there, amounts, preserve)
    plain = along(there, amounts, ())
    for name in preserve:
        assert abs(move @ there[name]) < 1e-9
    # What was taken away lies within the preserved, so the rest of the plain move is untouched.
    if preserve:
        basis = np.stack([there[name] for name in preserve], axis=1)
        taken = plain - move
        assert np.linalg.norm(basis @ np.linalg.pinv(basis) @ taken - taken) < 1e-9
    else:
        np.testing.assert_array_equal(move, plain)


@given(seed=st.integers(0, 999))
def test_one_preserved_direction_is_the_published_projection(seed: int) -> None:
    there = directions(seed)
    smile, unit = there["smile"], there["glasses"] / np.linalg.norm(there["glasses"])
    expected = smile - (smile @ unit) * unit
    np.testing.assert_allclose(along(there, {"smile": 1.0}, ["glasses"]), expected, atol=1e-12)


@given(seed=st.integers(0, 999), amounts=AMOUNTS, preserve=PRESERVED)
def test_the_order_of_names_changes_no_bit(
    seed: int, amounts: dict[str, float], preserve: list[str]
) -> None:
    there = directions(seed)
    turned = along(there, dict(reversed(amounts.items())), preserve[::-1] * 2)
    np.testing.assert_array_equal(turned, along(there, amounts, preserve))


@given(seed=st.integers(0, 999), weights=st.tuples(st.floats(-2, 2), st.floats(-2, 2)))
def test_a_direction_of_which_nothing_is_left_is_refused(
    seed: int, weights: tuple[float, float]
) -> None:
    assume(max(map(abs, weights)) > 1e-3)
    there = directions(seed)
    there["smile"] = weights[0] * there["age"] + weights[1] * there["glasses"]
    with pytest.raises(InvalidArgument, match="nothing is left of 'smile'"):
        along(there, {"smile": 1.0}, ["age", "glasses"])
    along(there, {"hat": 1.0}, ["age", "glasses", "smile"])  # preserved twice is no harm
