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
    """Of rows, at the posterior mean, as the service scores them; higher is stranger.

    `atypicality` is minus the typicality that Score returns, the lower of the two-sided ones of
    reconstruction and of KL; the last is minus that of the -ELBO alone, for comparison.
    """

    reconstruction: np.ndarray
    kl: np.ndarray
    negative_elbo: np.ndarray
    atypicality: np.ndarray
    atypicality_of_elbo: np.ndarray


def prove(report: Report, data_dir: Path, runs: Path) -> None:
    """One class of Fashion-MNIST left out; all of it against other pictures; the calibration."""
    fashion = load("fashion-mnist", data_dir=data_dir)
    test = load("fashion-mnist", part="test", data_dir=data_dir)
    assert fashion.labels is not None
    assert test.labels is not None
    report.heading("L5: AUROC, one class of fashion-mnist left out of the training")
    left: list[list[float]] = []
    for left_out in range(10):
        kept = fashion.take(np.flatnonzero(fashion.labels != left_out))
        subject = trained(runs / f"without-{left_out}", replace(MLP, epochs=6), kept)
        normal, strange = (
            _scores(subject, test.x[(test.labels == left_out) == is_out])
            for is_out in (False, True)
        )
        left.append(_compare(report, f"class {left_out}", normal, strange))

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
    other = [_compare(report, name, normal, _scores(subject, x)) for name, x in others.items()]

    report.heading("L5: mean AUROC")
    means = {"classes left out": left, "other pictures": other, "all": left + other}
    aurocs = {
        name: dict(zip(Scores._fields, np.mean(rows, 0), strict=True))
        for name, rows in means.items()
    }
    for name, found in aurocs.items():
        for part in ("negative_elbo", "atypicality", "atypicality_of_elbo"):
            report.add(f"{name}: {part}", float(found[part]))
    for name in ("other pictures", "all"):
        gain = float(aurocs[name]["atypicality"] - aurocs[name]["negative_elbo"])
        what = f"{name}: typicality over -ELBO"
        report.require("L5", what, gain, wanted=">= 0", passed=gain >= 0)

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


def _compare(report: Report, name: str, normal: Scores, strange: Scores) -> list[float]:
    """AUROC of every score, in their order."""
    truth = np.repeat([0, 1], [len(normal.kl), len(strange.kl)])
    found = []
    for part, one, other in zip(Scores._fields, normal, strange, strict=True):
        found.append(float(roc_auc_score(truth, np.concatenate([one, other]))))
        report.add(f"{name}: {part}", found[-1])
    return found


def _scores(subject: RunSubject, x: np.ndarray) -> Scores:
    terms = posterior_terms(subject, torch.from_numpy(x), None)
    negative_elbo = (terms.reconstruction + terms.kl).numpy()
    stored = _calibration(subject)
    by_part = [
        _typicality(nats.numpy(), stored, name)
        for nats, name in ((terms.reconstruction, "reconstruction_nats"), (terms.kl, "kl_nats"))
    ]
    return Scores(
        terms.reconstruction.numpy(),
        terms.kl.numpy(),
        negative_elbo,
        -np.minimum(*by_part),
        -_typicality(negative_elbo, stored, "negative_elbo_nats"),
    )


def _typicality(nats: np.ndarray, stored: dict[str, np.ndarray], name: str) -> np.ndarray:
    percent = np.interp(nats, stored[name], stored["percent"])
    typicality: np.ndarray = 2 * np.minimum(percent, 100 - percent) / 100
    return typicality


def _calibration(subject: RunSubject) -> dict[str, np.ndarray]:
    content = (subject.origin.folder / bundle.CALIBRATION).read_bytes()
    names = (
        "percent", "reconstruction_nats", "kl_nats", "negative_elbo_nats",
        "mu_mean", "mu_variance", "sigma2_mean",
    )  # fmt: skip
    return archives.read(bundle.CALIBRATION, content, names)
