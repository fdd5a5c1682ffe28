"""Directions of attributes: their algebra, and planted attributes that must be found."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from support.latents import KnownPosteriors, rows
from vaeserve_export.data.dataset import Dataset
from vaeserve_export.errors import LatentError
from vaeserve_export.latent import directions
from vaeserve_export.latent.attribute import METHODS, AttributeFit, Other, fit_attribute
from vaeserve_export.latent.posterior import encode
from vaeserve_export.trained.of_run import RunSubject

Labels = directions.Labels


def _confounded(count: int, share: float = 0.8) -> tuple[Labels, Labels]:
    rng = np.random.default_rng(1)
    labels = rng.random(count) < 0.5
    other = rng.random(count) < np.where(labels, share, 1 - share)
    return labels.astype(np.int64), other.astype(np.int64)


def _known(count: int = 2000) -> tuple[Dataset, Labels, Labels]:
    """The attribute moves dimension 0 by 2, the confounder dimension 1 by 2; noise in all four."""
    labels, other = _confounded(count)
    mu = np.random.default_rng(2).normal(0, 0.5, (count, 4))
    mu[:, 0] += 2 * labels
    mu[:, 1] += 2 * other
    return rows(mu, 0.1), labels, other


def _fit(method: str, **options: Any) -> AttributeFit:
    data, labels, other = _known()
    balance = None if method == "mean-difference" else Other("glasses", other)
    return fit_attribute(
        KnownPosteriors(4), data.x, labels, name="smile", method=method, balance=balance, **options
    )


@pytest.mark.parametrize("method", METHODS)
def test_amount_one_is_the_distance_of_the_class_means(method: str) -> None:
    fit = _fit(method)
    unit = fit.direction / np.linalg.norm(fit.direction)
    # The balanced means differ by 2 in dimension 0 alone, the plain ones by 1.2 in dimension 1 too.
    means = np.array([2, 1.2 if method == "mean-difference" else 0, 0, 0])
    assert np.linalg.norm(fit.direction) == pytest.approx(unit @ means, abs=0.1)
    assert fit.entry.auc > 0.95
    assert fit.entry.method == method
    assert fit.entry.positives + fit.entry.negatives == 1800


def test_balancing_takes_the_confounder_out() -> None:
    plain, balanced, logistic = (_fit(method).direction for method in METHODS)
    assert plain[1] / plain[0] > 0.5
    assert abs(balanced[1] / balanced[0]) < 0.06
    assert abs(logistic[1] / logistic[0]) < 0.06


def test_logistic_moves_less_where_a_step_changes_the_picture_more() -> None:
    labels = np.random.default_rng(0).integers(2, size=1000)
    mu = np.random.default_rng(1).normal(0, 0.5, (1000, 3))
    mu[:, :2] += labels[:, None]  # two dimensions tell of it alike, one with a narrow posterior
    data = rows(mu, np.array([0.04, 0.36, 0.36]))
    fit = fit_attribute(KnownPosteriors(3), data.x, labels, name="smile", method="logistic")
    assert fit.direction[1] / fit.direction[0] == pytest.approx(3, rel=0.15)


def test_auto_takes_the_better_on_rows_that_are_not_reported() -> None:
    fit = _fit("auto")
    assert set(fit.tried) == {"logistic", "balanced"}
    assert fit.entry.method == max(fit.tried, key=lambda method: fit.tried[method])
    assert fit.entry.auc not in fit.tried.values()
    assert "chosen by AUC on rows apart" in fit.entry.note


def test_projecting_out_leaves_the_other_alone() -> None:
    aside = np.array([1, 1, 0, 0], np.float32)
    fit = _fit("balanced", project_out={"tilt": aside})
    assert fit.direction @ aside == pytest.approx(0, abs=1e-6)
    assert "projected out: tilt" in fit.entry.note
    twice = _fit("balanced", project_out={"tilt": aside, "the same": 2 * aside})
    np.testing.assert_allclose(twice.direction, fit.direction, atol=1e-6)
    with pytest.raises(LatentError, match="nothing is left"):
        _fit("balanced", project_out={"same": _fit("balanced").direction})


def test_rows_set_aside_report_and_teach_nothing() -> None:
    """The last 500 have their labels turned: they call wrong what was fitted rightly."""
    data, labels, _ = _known()
    turned = labels.copy()
    turned[1500:] = 1 - turned[1500:]
    fit = fit_attribute(KnownPosteriors(4), data.x, turned, name="smile", reporting=500)
    assert min(fit.tried.values()) > 0.95
    assert fit.entry.auc < 0.05
    assert fit.entry.positives + fit.entry.negatives == 1500


def test_rows_that_teach_may_be_sorted() -> None:
    """Sorted by the attribute, the first fifth is of one kind."""
    data, labels, _ = _known()
    order = np.concatenate([np.argsort(labels[:1500], kind="stable"), np.arange(1500, 2000)])
    x, sorted_labels = data.x[order], labels[order]
    fit = fit_attribute(KnownPosteriors(4), x, sorted_labels, name="smile", reporting=500)
    assert fit.entry.auc > 0.95


@given(st.integers(0, 2**32))
def test_balancing_weights_make_the_labellings_independent(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([rng.integers(2, size=30), [0, 1, 0, 1]])
    other = np.concatenate([rng.integers(3, size=30), [0, 0, 1, 1]])
    weights = directions.balancing_weights(labels, other)
    cells = [weights[(labels == a) & (other == b)].sum() for a in (0, 1) for b in (0, 1)]
    np.testing.assert_allclose(cells, 1)


def test_correlation_of_labellings() -> None:
    labels = np.array([0, 0, 1, 1] * 10)
    assert directions.correlation(labels, labels * 3 + 1) == pytest.approx(1)
    assert directions.correlation(labels, np.array([0, 1, 0, 1] * 10)) == pytest.approx(0)
    assert directions.correlation(labels, np.zeros(40, np.int64)) == 0


def test_the_note_warns_of_few_rows_and_of_correlated_labellings() -> None:
    data, labels, other = _known(200)
    subject = KnownPosteriors(4)
    balanced = fit_attribute(
        subject, data.x, labels, name="smile", method="balanced", balance=Other("glasses", other)
    )
    assert any("rows with it, glasses 0" in warning for warning in balanced.warnings)
    assert any("correlated with glasses" in warning for warning in balanced.warnings)
    assert all(warning in balanced.entry.note for warning in balanced.warnings)
    data, labels, _ = _known()
    noise = np.random.default_rng(0).integers(2, size=len(labels))
    assert any(
        "hardly better than chance" in warning
        for warning in fit_attribute(subject, data.x, noise, name="noise").warnings
    )
    assert not fit_attribute(subject, data.x, labels, name="smile").warnings


def test_refusals() -> None:
    data, labels, other = _known(100)
    subject = KnownPosteriors(4)

    def refused(message: str, wanted: Labels = labels, **options: Any) -> None:
        with pytest.raises(LatentError, match=message):
            fit_attribute(subject, data.x, wanted, name="smile", **options)

    refused("labels must be 0 or 1", labels + 1)
    refused("every part", np.eye(1, 100, dtype=np.int64)[0])
    refused("balanced needs", method="balanced")
    refused("balances nothing", method="mean-difference", balance=Other("glasses", other))
    refused("occurs both", balance=Other("the same", labels))
    refused("use auto", method="magic")


def test_planted_attribute_and_confounder(marked_run: Path, marked: Dataset) -> None:
    """Bar L3, small: AUC >= 0.95 of every fit; the balanced cosine at most half of the plain."""
    subject, data = RunSubject(marked_run), marked
    assert data.labels is not None
    # Four in five of the rows that are labelled have both bars or neither.
    kept = np.random.default_rng(1).random(len(data.x)) < np.where(data.labels % 3 == 0, 1, 0.25)
    x, labels, other = data.x[kept], data.labels[kept] % 2, data.labels[kept] // 2
    confounder = fit_attribute(
        subject, data.x, data.labels // 2, name="below", method="mean-difference"
    )
    mu = encode(subject, x[:200]).mu
    before = subject.decode(torch.from_numpy(mu))
    cosines, drawn = {}, {}
    for method in METHODS:
        balance = None if method == "mean-difference" else Other("below", other)
        fit = fit_attribute(subject, x, labels, name="above", method=method, balance=balance)
        assert fit.entry.auc >= 0.95, method
        cosines[method] = abs(directions.cosine(fit.direction, confounder.direction))
        edited = subject.decode(torch.from_numpy(mu + fit.direction)) - before
        drawn[method] = float(edited[:, :, 6:, 4:].mean() / edited[:, :, :2, :4].mean())
    assert cosines["mean-difference"] > 0.3
    assert cosines["balanced"] <= 0.5 * cosines["mean-difference"]
    # And so it is in pictures: how much of the confounder an edit draws for what it should draw.
    assert drawn["mean-difference"] > 0.3
    assert abs(drawn["balanced"]) <= 0.5 * drawn["mean-difference"]
