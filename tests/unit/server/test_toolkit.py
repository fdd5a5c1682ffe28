"""Where a score stands among those of the validation rows, ties included."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from vaeserve.v1.archives import Calibration
from vaeserve_server.toolkit import Toolkit

PERCENT = np.arange(101.0)


def toolkit(nats: list[float]) -> Toolkit:
    known = np.percentile(nats, PERCENT)
    none = np.zeros(1)
    return Toolkit(Calibration(PERCENT, known, known, known, none, none, none))


@given(values=st.lists(st.integers(-4, 4), min_size=200, max_size=300), at=st.integers(-5, 5))
def test_rows_that_score_alike_stand_in_their_middle(values: list[int], at: int) -> None:
    nats = np.array(values)
    wanted = 100 * ((nats < at).mean() + (nats == at).mean() / 2)
    place = toolkit([100.0 + value for value in values]).percentile(np.array([100.0 + at]))
    assert place[0] == pytest.approx(wanted, abs=1.1)


@pytest.mark.parametrize("rounding", [-2e-5, 0.0, 2e-5])
def test_rows_that_all_score_alike_are_typical(rounding: float) -> None:
    same = toolkit([7.0] * 50)
    nats = np.full(3, 7.0 + rounding)
    assert same.percentile(nats).tolist() == [50.0] * 3
    assert same.typicality(nats, nats).tolist() == [1.0] * 3
    other = np.array([6.9, 7.1])
    assert same.percentile(other).tolist() == [0.0, 100.0]
    assert same.typicality(other, other).tolist() == [0.0, 0.0]


def test_between_percentiles_it_is_linear() -> None:
    known = toolkit(list(np.arange(0.0, 1001.0)))  # a percentile every ten nats
    assert known.percentile(np.array([123.4, 500.0])) == pytest.approx([12.34, 50.0], abs=0.01)
    beyond = np.array([-np.inf, -1e9, 1e9, np.inf])
    assert known.percentile(beyond).tolist() == [0.0, 0.0, 100.0, 100.0]
