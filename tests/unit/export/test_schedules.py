"""The weight of the KL and the learning rate over the epochs."""

import pytest
from hypothesis import given, strategies as st

from vaeserve_export.training.kl_weight import kl_weight, warm_since
from vaeserve_export.training.learning_rate import learning_rate_share
from vaeserve_export.training.settings import TrainSettings


def test_without_warm_up_the_weight_is_beta() -> None:
    settings = TrainSettings(beta=0.7)
    assert [kl_weight(settings, epochs) for epochs in (0.01, 1, 99)] == [0.7] * 3


def test_linear_warm_up() -> None:
    settings = TrainSettings(beta=0.5, kl_warmup_epochs=4)
    weights = [kl_weight(settings, epochs) for epochs in (0.5, 1, 2, 3.5, 4, 5, 100)]
    assert weights == [0.0625, 0.125, 0.25, 0.4375, 0.5, 0.5, 0.5]


def test_cycles() -> None:
    """Fu et al. 2019: the first half of a cycle grows, the second stays; then from the start."""
    settings = TrainSettings(beta=1, kl_warmup_epochs=2, kl_cycle_epochs=4)
    epochs = (0.5, 1, 2, 3, 4, 4.5, 5, 6, 7, 8, 8.5)
    weights = [kl_weight(settings, number) for number in epochs]
    assert weights == [0.25, 0.5, 1, 1, 1, 0.25, 0.5, 1, 1, 1, 0.25]


def test_patience_waits_for_the_growth_in_which_an_epoch_is() -> None:
    assert [warm_since(TrainSettings(), epoch) for epoch in (0, 5)] == [0, 0]
    warm_up = TrainSettings(kl_warmup_epochs=3)
    assert [warm_since(warm_up, epoch) for epoch in (0, 1, 9)] == [3, 3, 3]
    cycles = TrainSettings(kl_warmup_epochs=3, kl_cycle_epochs=5)
    assert [warm_since(cycles, epoch) for epoch in (0, 1, 5, 6, 10, 11)] == [3, 3, 3, 8, 8, 13]


@given(epochs=st.floats(0.001, 1000))
def test_the_weight_stays_between_nothing_and_beta(epochs: float) -> None:
    settings = TrainSettings(beta=2, kl_warmup_epochs=3, kl_cycle_epochs=7)
    assert 0 < kl_weight(settings, epochs) <= 2


def test_cosine() -> None:
    settings = TrainSettings(epochs=100, schedule="cosine")
    shares = [learning_rate_share(settings, epochs) for epochs in (0.3, 1.5, 3, 51.5, 100, 120)]
    assert shares == pytest.approx([0.1, 0.5, 1, 0.5, 0, 0])


def test_constant() -> None:
    settings = TrainSettings(epochs=100)
    assert [learning_rate_share(settings, epochs) for epochs in (0.01, 50, 100)] == [1, 1, 1]
