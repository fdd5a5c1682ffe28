"""Fit a named direction: which rows teach it, which choose how, which say how good it is."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vaeserve.v1 import model_pb2
from vaeserve.v1.archives import Doubles
from vaeserve.v1.noise import Floats
from vaeserve_export.data.dataset import split
from vaeserve_export.errors import LatentError
from vaeserve_export.latent import directions
from vaeserve_export.latent.directions import Labels, correlation
from vaeserve_export.latent.posterior import CHOOSING_FRACTION, encode
from vaeserve_export.trained.subject import Subject

Rows = npt.NDArray[np.int64]

AUTO = "auto"
MEAN_DIFFERENCE, BALANCED, LOGISTIC = "mean-difference", "balanced", "logistic"
METHODS = (MEAN_DIFFERENCE, BALANCED, LOGISTIC)

FEW_ROWS = 50
"""Fewer rows of a kind give a direction that is mostly chance."""

_CORRELATED = 0.2  # Cramer's V from which on a plain fit takes in much of the other labelling
_CHANCE = 0.6  # an AUC below this says that the direction hardly orders the rows


class Other(NamedTuple):
    """Another labelling of the rows, to balance by."""

    name: str
    labels: Labels


class AttributeFit(NamedTuple):
    """A fitted direction.

    Attributes:
        direction: [latent_dim]; 1 times it is the distance of the class means along it.
        entry: what the manifest says of it.
        tried: AUC on the choosing rows, by method.
        warnings: what speaks against using it, a line each; in the entry's note as well.
    """

    direction: Floats
    entry: model_pb2.Attribute
    tried: dict[str, float]
    warnings: list[str]


def fit_attribute(
    subject: Subject,
    x: Floats,
    labels: Labels,
    *,
    name: str,
    method: str = AUTO,
    balance: Other | None = None,
    project_out: dict[str, Floats] | None = None,
    reporting: int = 0,
    seed: int = 0,
) -> AttributeFit:
    """Fit the direction of an attribute to posterior means.

    The rows that the training validated on report the AUC, a fifth of the others chooses the
    method, and what was chosen is fitted to all but the reporting rows. Where a labelling to
    balance by is given, every AUC is that of balanced rows: a direction gains nothing by following
    that labelling.

    Args:
        subject: the model.
        x: rows [rows, *input_shape], in the values that the model takes.
        labels: 1 for rows with the attribute, 0 without, [rows].
        name: of the attribute.
        method: of METHODS, or "auto": "logistic" or "mean-difference" ("balanced" where there is
            a labelling to balance by), whichever orders the choosing rows better.
        balance: another labelling, for "balanced" and "logistic".
        project_out: directions by name that the attribute must not move along.
        reporting: how many rows at the end report, where they are a source's own validation part; 0
            for the tenth of all rows that a training with this seed validates on.
        seed: of the split.

    Raises:
        DataError: rows that the model does not take.
        LatentError: labels other than 0 and 1, a part without rows of both kinds, "balanced"
            without a labelling, "mean-difference" with one, or no direction.
    """
    if not np.isin(labels, (0, 1)).all():
        raise LatentError(f"{name}: labels must be 0 or 1, found {np.unique(labels)[:5].tolist()}")
    methods = _methods(method, balance)
    taught, report = _parts(len(x), reporting, seed)
    choosing = max(1, int(len(taught) * CHOOSING_FRACTION))
    choose, fit = taught[:choosing], taught[choosing:]
    _require_both(labels, (fit, choose, report), name)
    posteriors = encode(subject, x)
    mu = posteriors.mu.astype(np.float64)
    sigma = np.exp(0.5 * posteriors.log_var.astype(np.float64)).mean(0)
    others = {key: value.astype(np.float64) for key, value in (project_out or {}).items()}
    task = _Task(mu, sigma, labels, balance, np.array(list(others.values())) if others else None)

    tried = {m: task.auc(task.fit(m, fit), choose) for m in methods}
    chosen = max(methods, key=lambda m: tried[m])
    direction = task.fit(chosen, taught)
    score = task.auc(direction, report)
    warnings = _warnings(task, taught, score)
    positives = int(labels[taught].sum())
    entry = model_pb2.Attribute(
        name=name,
        method=chosen,
        auc=score,
        positives=positives,
        negatives=len(taught) - positives,
        note="; ".join([*_notes(task, taught, tried, direction, others), *warnings]),
    )
    return AttributeFit(direction.astype(np.float32), entry, tried, warnings)


def _parts(rows: int, reporting: int, seed: int) -> tuple[Rows, Rows]:
    """Row numbers that teach, in an order drawn by the seed, and those that report."""
    if not reporting:
        return split(rows, seed)
    taught = rows - reporting
    return np.random.default_rng(seed).permutation(taught), np.arange(taught, rows)


class _Task(NamedTuple):
    """What every fit shares."""

    mu: Doubles
    sigma: Doubles
    labels: Labels
    balance: Other | None
    others: Doubles | None

    def weights(self, rows: Rows) -> Doubles:
        """Equal for both classes, however rare the attribute is."""
        labels = self.labels[rows]
        other = np.zeros_like(labels) if self.balance is None else self.balance.labels[rows]
        return directions.balancing_weights(labels, other)

    def fit(self, method: str, rows: Rows) -> Doubles:
        mu, labels, weights = self.mu[rows], self.labels[rows], self.weights(rows)
        difference = directions.mean_difference(mu, labels, weights)
        fitted = difference
        if method == LOGISTIC:
            fitted = directions.logistic(mu, labels, weights, self.sigma)
        if self.others is None:
            return fitted
        return directions.scaled(directions.project_out(fitted, self.others), difference)

    def auc(self, direction: Doubles, rows: Rows) -> float:
        return directions.auc(self.mu[rows], direction, self.labels[rows], self.weights(rows))


def _methods(method: str, balance: Other | None) -> tuple[str, ...]:
    plain = MEAN_DIFFERENCE if balance is None else BALANCED
    if method == AUTO:
        return (plain, LOGISTIC)
    if method not in METHODS:
        raise LatentError(f"method {method!r}: use {AUTO}, {', '.join(METHODS)}")
    if method == BALANCED and balance is None:
        raise LatentError("method balanced needs a labelling to balance by")
    if method == MEAN_DIFFERENCE and balance is not None:
        raise LatentError("method mean-difference balances nothing: use balanced")
    return (method,)


def _require_both(labels: Labels, rows: tuple[Rows, ...], name: str) -> None:
    for part in rows:
        if len(np.unique(labels[part])) < 2:
            raise LatentError(
                f"{name}: too few rows: {int(labels.sum())} of {len(labels)} labels are 1, and "
                "every part (to fit, to choose, to report) needs both kinds"
            )


def _notes(
    task: _Task,
    rows: Rows,
    tried: dict[str, float],
    direction: Doubles,
    others: dict[str, Doubles],
) -> list[str]:
    notes = []
    if len(tried) > 1:
        aucs = ", ".join(f"{method} {value:.3f}" for method, value in tried.items())
        notes.append(f"chosen by AUC on rows apart: {aucs}")
    if task.balance is not None:
        labels, other = task.labels[rows], task.balance.labels[rows]
        plain = directions.mean_difference(task.mu[rows], labels, np.ones(len(rows)))
        notes.append(
            f"balanced by {task.balance.name} (correlated {correlation(labels, other):.2f}), "
            "AUC of balanced rows; cosine to the plain mean difference "
            f"{directions.cosine(direction, plain):.2f}"
        )
    if others:
        notes.append(f"projected out: {', '.join(others)}")
    return notes


def _warnings(task: _Task, rows: Rows, score: float) -> list[str]:
    labels = task.labels[rows]
    kinds = {"with it": labels == 1, "without it": labels == 0}
    if task.balance is not None:
        other = task.balance.labels[rows]
        kinds = {
            f"{kind}, {task.balance.name} {value}": mask & (other == value)
            for kind, mask in kinds.items()
            for value in np.unique(other)
        }
    found = [
        f"warning: only {mask.sum()} rows {kind}; fewer than {FEW_ROWS} teach little"
        for kind, mask in kinds.items()
        if mask.sum() < FEW_ROWS
    ]
    if task.balance is not None:
        strength = correlation(labels, task.balance.labels[rows])
        if strength >= _CORRELATED:
            found.append(
                f"warning: correlated with {task.balance.name} ({strength:.2f}): what balancing "
                "cannot see of it may be left"
            )
    if score < _CHANCE:
        found.append(f"warning: AUC {score:.2f} is hardly better than chance")
    return found
