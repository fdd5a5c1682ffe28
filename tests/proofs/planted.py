"""L3: attributes whose direction is known, because they were drawn into the pictures."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from proofs.models import MLP, trained
from proofs.report import Report
from vaeserve_export.data.dataset import Dataset, load
from vaeserve_export.latent.attribute import Other, fit_attribute
from vaeserve_export.latent.directions import cosine
from vaeserve_export.latent.posterior import encode
from vaeserve_export.trained.subject import Subject

LEFT, RIGHT = np.s_[:, :, 1:5, 1:5], np.s_[:, :, 1:5, -5:-1]
_CONFOUNDED = 0.8  # of the rows with the attribute have the confounder, and so few without it


def plant(x: np.ndarray, attribute: np.ndarray, confounder: np.ndarray) -> np.ndarray:
    """Draw bright 4x4 squares into the upper corners of those rows."""
    marked = x.copy()
    for rows, place in ((attribute, LEFT), (confounder, RIGHT)):
        square = marked[rows]
        square[place] = 1
        marked[rows] = square
    return marked


def prove(report: Report, data_dir: Path, runs: Path) -> None:
    """L3 on Fashion-MNIST with two squares, one the attribute and one the confounder."""
    report.heading("L3: planted attribute (a square), confounded 80/20 with another square")
    fashion = load("fashion-mnist", data_dir=data_dir)
    x = fashion.x[:20_000]
    rng = np.random.default_rng(0)
    attribute = rng.random(len(x)) < 0.5
    confounder = rng.random(len(x)) < np.where(attribute, _CONFOUNDED, 1 - _CONFOUNDED)
    marked = plant(x, attribute, confounder)
    data = Dataset(marked, None, fashion.level, "fashion-mnist with planted squares")
    subject = trained(runs / "planted", replace(MLP, epochs=40), data)

    labels, others = attribute.astype(np.int64), confounder.astype(np.int64)
    other = Other("confounder", others)
    towards = fit_attribute(subject, marked, others, name="other", method="mean-difference")
    mu = encode(subject, marked[:2000]).mu
    before = _decode(subject, mu)
    cosines, drawn = {}, {}
    for method, balance in (
        ("mean-difference", None),
        ("balanced", other),
        ("logistic", None),
        ("logistic, balanced", other),
    ):
        fit = fit_attribute(
            subject, marked, labels, name="mark", method=method.split(",")[0], balance=balance
        )
        cosines[method] = abs(cosine(fit.direction, towards.direction))
        change = _decode(subject, mu + fit.direction) - before
        drawn[method] = abs(float(change[RIGHT].mean() / change[LEFT].mean()))
        report.require(
            "L3", f"{method}: AUC, held out", fit.entry.auc, wanted=">= 0.95",
            passed=fit.entry.auc >= 0.95,
        )  # fmt: skip
        report.add(f"{method}: cosine to the confounder's direction", cosines[method])
        report.add(f"{method}: confounder drawn by an edit of 1, of the mark", drawn[method])
    for what, values in (("cosine", cosines), ("confounder drawn", drawn)):
        ratio = values["balanced"] / values["mean-difference"]
        report.require(
            "L3", f"{what}, balanced over plain", ratio, wanted="<= 0.5", passed=ratio <= 0.5
        )


def _decode(subject: Subject, mu: np.ndarray) -> np.ndarray:
    return subject.decode(torch.from_numpy(mu)).numpy()
