"""What is drawn for the rows of a training: order, pixels, noise."""

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from vaeserve_export.data.dataset import Dataset
from vaeserve_export.training.rows import (
    PURPOSES,
    TrainRows,
    epoch_order,
    prepare,
    thresholds,
    uniform_levels,
)
from vaeserve_export.training.settings import TrainSettings

SETTINGS = TrainSettings(latent_dim=3, binarise=True)


def generators(seed: int = 0) -> dict[str, torch.Generator]:
    return {name: torch.Generator().manual_seed(seed) for name in PURPOSES}


def draws(x: Tensor, count: int) -> Tensor:
    """So many drawings of a row of pixels, [count, pixels]."""
    rows = TrainRows(x[None], SETTINGS)
    return rows.draw(torch.zeros(count, dtype=torch.int64), generators())[0]


def test_pixels_are_one_as_often_as_they_are_bright() -> None:
    x = torch.linspace(0, 1, 256)
    count = 20_000
    drawn = draws(x, count)
    assert set(drawn.flatten().tolist()) == {0, 1}
    spread = (x * (1 - x) / count).sqrt()
    assert ((drawn.mean(0) - x).abs() <= 5 * spread + 2**-16).all()
    assert (drawn.mean(0)[[0, -1]] == torch.tensor([0.0, 1.0])).all()
    distance = (drawn.mean(0) - x) / spread.clamp(min=1e-9)
    assert 0.8 < distance[1:-1].std() < 1.2  # as far from it as chance takes them, and not nearer


def test_pixels_are_independent() -> None:
    drawn = draws(torch.full((8,), 0.5), 20_000)
    correlation = torch.corrcoef(drawn.T) - torch.eye(8)
    assert correlation.abs().max() < 0.05


@given(level=st.floats(0, 1, width=32))
def test_a_threshold_is_the_probability(level: float) -> None:
    """Of 65536 equally likely levels, the highest of which counts as the one below it."""
    threshold = int(thresholds(torch.tensor([level]))[0])
    below = 65536 if threshold == 32767 else threshold + 32768
    assert below / 65536 == pytest.approx(level, abs=2**-16)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (7, 2, 3, 3)])
def test_levels_take_any_shape(shape: tuple[int, ...]) -> None:
    levels = uniform_levels(shape, torch.Generator().manual_seed(0))
    assert levels.shape == shape
    assert levels.dtype == torch.int16


def test_levels_are_uniform() -> None:
    levels = uniform_levels((400_000,), torch.Generator().manual_seed(0)).numpy()
    counts, _ = np.histogram(levels, bins=16, range=(-32768, 32768))
    assert abs(counts / 25_000 - 1).max() < 0.03


@pytest.mark.parametrize("binarise", [False, True])
@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_shares_of_a_batch_are_the_batch(binarise: bool, processes: int) -> None:
    """Whatever the number of processes, each row has the pixels and noise that it has in one."""
    settings = TrainSettings(latent_dim=3, binarise=binarise)
    x = torch.rand(50, 2, 3, generator=torch.Generator().manual_seed(1))
    rows, batch = TrainRows(x, settings), torch.arange(20, 33)
    whole = rows.draw(batch, generators())
    shares = [rows.draw(batch, generators(), rank, processes) for rank in range(processes)]
    for together, parts in zip(whole, zip(*shares, strict=True), strict=True):
        assert torch.equal(together, torch.cat(parts))
    assert {len(share[0]) for share in shares} <= {13 // processes, 13 // processes + 1}


def test_an_autoencoder_has_no_noise() -> None:
    settings = TrainSettings(model="ae", latent_dim=3)
    data = Dataset(np.zeros((20, 6), np.float32), None, None, "zeros")
    rows, validation = prepare(settings, data, 0)
    assert not rows.draw(torch.arange(5), generators())[1].any()
    assert not validation.eps.any()


def test_each_epoch_has_an_order_of_its_own_that_it_finds_again() -> None:
    orders = [epoch_order(100, 7, epoch).tolist() for epoch in range(5)]
    assert all(sorted(order) == list(range(100)) for order in orders)
    assert len({tuple(order) for order in orders}) == 5
    assert epoch_order(100, 7, 3).tolist() == orders[3]
    assert epoch_order(100, 8, 3).tolist() != orders[3]
