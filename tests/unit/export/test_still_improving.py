"""Whether a training had more to learn: told of curves that still fall, and of no others."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from support.epochs import epoch_record
from vaeserve_export.data.dataset import Dataset
from vaeserve_export.evaluation.still_improving import Remark, still_improving
from vaeserve_export.training.records import read_records
from vaeserve_export.training.run import METRICS
from vaeserve_export.training.settings import TrainSettings
from vaeserve_export.training.train import train

PATIENCE = TrainSettings().patience


def judged(losses: list[float], patience: int = PATIENCE) -> Remark | None:
    records = [
        dataclasses.replace(epoch_record(epoch), validation_loss=loss)
        for epoch, loss in enumerate(losses, 1)
    ]
    return still_improving(records, patience)


def decay(epochs: int, half_life: float) -> list[float]:
    return [24 + 10 * 0.5 ** (epoch / half_life) for epoch in range(epochs)]


@given(epochs=st.integers(2, 400), half_lives=st.floats(0.2, 4))
def test_a_curve_that_still_falls(epochs: int, half_lives: float) -> None:
    remark = judged(decay(epochs, epochs / half_lives))
    assert remark is not None
    assert remark.name == "still_improving"
    assert f"The best of {epochs} epochs is {epochs}." in remark.evidence[0]
    assert f"--resume --epochs {2 * epochs}" in remark.remedy


@given(seed=st.integers(0, 999), epochs=st.integers(40, 400), reached=st.floats(0.05, 0.75))
def test_a_plateau_with_scatter(seed: int, epochs: int, reached: float) -> None:
    """However late it is reached, and though its last epoch happens to be the best."""
    fall = np.maximum(1 - np.arange(epochs) / (reached * epochs), 0)
    losses = 24 + 10 * fall + np.random.default_rng(seed).uniform(-0.02, 0.02, epochs)
    losses[-1] = losses.min() - 0.001
    assert judged(losses.tolist()) is None


@given(patience=st.integers(1, 8), epochs=st.integers(90, 200))
def test_a_training_that_was_stopped_by_its_patience(patience: int, epochs: int) -> None:
    """It got no better, however fast it fell before."""
    losses = [*decay(epochs, epochs / 2), *[31.0] * patience]
    assert judged(losses, patience) is None
    assert judged(losses, patience + 1) is not None


@pytest.mark.parametrize(("nats", "remarked"), [(0.3, False), (0.6, True)])
def test_a_loss_that_creeps_down(nats: float, remarked: bool) -> None:
    """Over the last half by so much, after a fall of ten nats."""
    losses = [*np.linspace(34, 24, 20).tolist(), *np.linspace(24, 24 - nats, 21)[1:].tolist()]
    assert (judged(losses) is not None) == remarked


@pytest.mark.parametrize(
    ("losses", "remarked"),
    [
        ([], False),
        ([30.0], False),  # of one epoch nothing can be said
        ([30.0, 28.0], True),
        ([30.0, 31.0], False),
        ([25.0] * 30, False),
        ([*decay(40, 20)[:-1], 31.0], True),  # the best is nearly the last
        ([*decay(34, 17), *[31.0] * 6], False),  # it is not
    ],
)
def test_the_ends_of_the_rule(losses: list[float], remarked: bool) -> None:
    assert (judged(losses) is not None) == remarked


@pytest.mark.parametrize(
    ("changes", "remarked"),
    [
        ({"epochs": 20}, True),
        ({"epochs": 300, "hidden": 64, "learning_rate": 5e-3, "patience": 6}, False),
        ({"epochs": 60, "hidden": 64, "learning_rate": 5e-3, "schedule": "cosine"}, False),
    ],
)
def test_on_digits(
    digits: Dataset, tmp_path: Path, changes: dict[str, object], remarked: bool
) -> None:
    chosen = dataclasses.replace(TrainSettings(threads=1), **changes)  # type: ignore[arg-type]
    summary = train(chosen, digits, tmp_path / "run")
    records = read_records(tmp_path / "run" / METRICS)
    assert (still_improving(records, chosen.patience) is not None) == remarked
    assert remarked or summary.epochs_run > summary.epochs or chosen.schedule == "cosine"
