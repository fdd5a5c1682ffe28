"""The figures of an epoch on the validation rows, each of which is measured once."""

from typing import NamedTuple

import torch

from vaeserve_export.training.group import Group
from vaeserve_export.training.rows import Validation
from vaeserve_export.vae.calibration import ACTIVE_VARIANCE
from vaeserve_export.vae.model import Vae
from vaeserve_export.vae.objective import evaluate


class Figures(NamedTuple):
    """Means over the validation rows, nats per row."""

    reconstruction: float
    kl: float
    active_units: int


def validate(vae: Vae, rows: Validation, group: Group) -> Figures:
    """Measure the model; each process takes its share of the rows, and all get the same figures."""
    count = len(rows.x)
    share = slice(count * group.rank // group.size, count * (group.rank + 1) // group.size)
    device = next(vae.parameters()).device
    if share.start == share.stop:
        sums = torch.zeros(2 + 2 * vae.config.latent_dim, dtype=torch.float64)
    else:
        terms = evaluate(vae, rows.x[share], rows.eps[share])
        mu = terms.mu.double()
        nats = torch.stack([terms.reconstruction.double().sum(), terms.kl.double().sum()])
        sums = torch.cat([nats, mu.sum(0), mu.square().sum(0)])
    means = group.sum(sums.to(device)).cpu() / count
    mu_mean, mu_square = means[2:].chunk(2)
    active = int((mu_square - mu_mean.square() > ACTIVE_VARIANCE).sum())
    return Figures(float(means[0]), float(means[1]), active)
