"""L5 and L6: what scores say of rows the model never saw, and the statistics behind them."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from proofs.models import MLP, trained
from proofs.report import Report
from vaeserve.v1 import archives, bundle
from vaeserve_export.data.dataset import load, training_rows
from vaeserve_export.evaluation.posterior import posterior_terms
from vaeserve_export.trained.of_run import RunSubject


class Scores(NamedTuple):
    """Of rows, at the posterior mean, as the service scores them; higher is stranger."""

    reconstruction: np.ndarray
    kl: np.ndarray
    negative_elbo: np.ndarray
    atypicality: np.ndarray


def prove(report: Report, data_dir: Path, runs: Path) -> None:
    """One class of Fashion-MNIST left out; all of it against other pictures; the calibration."""
    fashion = load("fashion-mnist", data_dir=data_dir)
    test = load("fashion-mnist", part="test", data_dir=data_dir)
    assert fashion.labels is not None
    assert test.labels is not None
    mean: dict[str, list[float]] = {"raw": [], "typicality": []}
    report.heading("L5: AUROC, one class of fashion-mnist left out of the training")
    for left_out in range(10):
        kept = fashion.take(np.flatnonzero(fashion.labels != left_out))
        subject = trained(runs / f"without-{left_out}", replace(MLP, epochs=6), kept)
        normal, strange = (
            _scores(subject, test.x[(test.labels == left_out) == is_out])
            for is_out in (False, True)
        )
        _compare(report, f"class {left_out}", normal, strange, mean)

    report.heading("L5: AUROC, trained on fashion-mnist, against other pictures")
    subject = trained(runs / "fashion-mnist", MLP, fashion)
    normal = _scores(subject, test.x)
    rng = np.random.default_rng(0)
    shape = (2000, *test.x.shape[1:])
    others = {
        "mnist": load("mnist", part="test", data_dir=data_dir).x,
        "noise": rng.random(shape, np.float32),
        "constant": np.broadcast_to(rng.random((2000, 1, 1, 1), np.float32), shape).copy(),
    }
    for name, x in others.items():
        _compare(report, name, normal, _scores(subject, x), mean)
    raw, typical = (float(np.mean(values)) for values in mean.values())
    report.add("mean AUROC of all, -ELBO", raw)
    report.require(
        "L5", "mean AUROC of all, typicality", typical, wanted=">= that of -ELBO",
        passed=typical >= raw,
    )  # fmt: skip

    report.heading("L6: calibration.npz recomputed from the validation rows")
    _, validation = training_rows(fashion, MLP.seed)
    mu, log_var = subject.encode(torch.from_numpy(validation.x))
    again = {
        "mu_mean": mu.double().mean(0),
        "mu_variance": mu.double().var(0, correction=0),
        "sigma2_mean": log_var.double().exp().mean(0),
    }
    stored = _calibration(subject)
    apart = max(float(np.abs(stored[name] - value.numpy()).max()) for name, value in again.items())
    report.require("L6", "largest difference", apart, wanted="<= 1e-6", passed=apart <= 1e-6)


def _compare(
    report: Report, name: str, normal: Scores, strange: Scores, mean: dict[str, list[float]]
) -> None:
    truth = np.repeat([0, 1], [len(normal.kl), len(strange.kl)])
    for part, one, other in zip(Scores._fields, normal, strange, strict=True):
        auroc = float(roc_auc_score(truth, np.concatenate([one, other])))
        report.add(f"{name}: {part}", auroc)
        if part == "negative_elbo":
            mean["raw"].append(auroc)
        elif part == "atypicality":
            mean["typicality"].append(auroc)


def _scores(subject: RunSubject, x: np.ndarray) -> Scores:
    terms = posterior_terms(subject, torch.from_numpy(x), None)
    negative_elbo = (terms.reconstruction + terms.kl).numpy()
    stored = _calibration(subject)
    percent = np.interp(negative_elbo, stored["negative_elbo_nats"], stored["percent"])
    typicality = 2 * np.minimum(percent, 100 - percent) / 100
    return Scores(terms.reconstruction.numpy(), terms.kl.numpy(), negative_elbo, -typicality)


def _calibration(subject: RunSubject) -> dict[str, np.ndarray]:
    content = (subject.origin.folder / bundle.CALIBRATION).read_bytes()
    names = ("percent", "negative_elbo_nats", "mu_mean", "mu_variance", "sigma2_mean")
    return archives.read(bundle.CALIBRATION, content, names)
