"""L4: a fitted prior describes the aggregated posterior better than N(0, I), and draws better."""

from pathlib import Path

import numpy as np
import torch

from proofs.models import MLP, trained
from proofs.report import Report
from vaeserve_export.data.dataset import load
from vaeserve_export.evaluation.features import feature_net
from vaeserve_export.evaluation.frechet import frechet_distance
from vaeserve_export.latent.mixture import draw, log_density, log_standard
from vaeserve_export.latent.posterior import encode
from vaeserve_export.latent.prior import fit_prior
from vaeserve_export.trained.subject import Subject


def prove(report: Report, data_dir: Path, runs: Path) -> None:
    """L4 on MNIST and Fashion-MNIST; densities and distances against their test pictures."""
    for name in ("mnist", "fashion-mnist"):
        report.heading(f"L4: fitted prior, {name}")
        data, test = load(name, data_dir=data_dir), load(name, part="test", data_dir=data_dir)
        subject = trained(runs / name, MLP, data)
        fit = fit_prior(subject, data)
        report.add("components", float(len(fit.mixture.weights)))
        z = encode(subject, test.x).draws(0)
        fitted, standard = -log_density(fit.mixture, z).mean(), -log_standard(z).mean()
        report.add("nats a draw, N(0, I)", float(standard))
        report.require(
            "L4", "nats a draw, fitted", float(fitted), wanted="below N(0, I)",
            passed=fitted < standard,
        )  # fmt: skip
        net = feature_net(data)
        report.add("accuracy of the feature net", net.accuracy)
        real = net(torch.from_numpy(test.x))
        eps = np.random.default_rng(0).standard_normal(z.shape).astype(np.float32)
        before = frechet_distance(net(_decode(subject, eps)), real)
        after = frechet_distance(net(_decode(subject, draw(fit.mixture, len(z), 0))), real)
        report.add("Frechet distance of samples, N(0, I)", before)
        report.add("Frechet distance of samples, fitted", after)
        report.add(
            "Frechet distance of reconstructions", frechet_distance(net(_decode(subject, z)), real)
        )
        gain = 100 * (1 - after / before)
        report.require("L4", "improved by %", gain, wanted=">= 10", passed=gain >= 10)


def _decode(subject: Subject, z: np.ndarray) -> torch.Tensor:
    return torch.cat([subject.decode(part) for part in torch.split(torch.from_numpy(z), 512)])
