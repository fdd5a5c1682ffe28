"""How far what a model makes lies from its data.

A VAE's decoder has been trained on a whole neighbourhood of every code, and codes fill the prior.
An autoencoder's has been trained on points: between them, and where the prior draws, it answers
with what is no datum.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from vaeserve.v1.paths import slerp
from vaeserve_export.evaluation.evidence import ROWS, Rows
from vaeserve_export.evaluation.features import FeatureNet
from vaeserve_export.evaluation.frechet import frechet_distance
from vaeserve_export.trained.subject import Subject

_REFERENCE_ROWS = 5000


@dataclass(frozen=True)
class Departure:
    """How far a set of rows lies from rows trained on, in features of a classifier of the data.

    Attributes:
        frechet: squared Frechet distance of the two sets. It grows as well where a set is less
            varied than the data.
        nearest: mean distance of a row from the nearest row trained on, whatever the variety.
    """

    frechet: float
    nearest: float


@dataclass(frozen=True, kw_only=True)
class Departures:
    """The sets that are compared.

    Attributes:
        rows: of each set.
        accuracy: of the classifier, on rows it was not trained on.
        held_out: held-out rows themselves: nothing can be expected to lie nearer.
        reconstruction: held-out rows, decoded from their posterior's mean.
        prior: draws from N(0, I), decoded.
        midpoint: half-way (slerp) between the means of two held-out rows, decoded.
        cross_fade: the mean of the same two rows, pixel by pixel.
    """

    rows: int
    accuracy: float
    held_out: Departure
    reconstruction: Departure
    prior: Departure
    midpoint: Departure
    cross_fade: Departure


def departures(
    subject: Subject, net: FeatureNet, train: Rows, validation: Rows, *, seed: int = 0
) -> Departures:
    """Measure the distances; rows are taken as a caller sends them.

    Args:
        subject: the model.
        net: the classifier whose features are compared.
        train: rows that the model was trained on.
        validation: rows held out.
        seed: of pairs and prior draws.
    """
    reference = net(torch.from_numpy(train.data.x[:_REFERENCE_ROWS]))
    x = torch.from_numpy(validation.data.x[:ROWS])
    generator = torch.Generator().manual_seed(seed)
    other = _partners(len(x), generator)
    mu, _ = subject.encode(x)
    z = torch.randn(len(x), subject.latent_dim, generator=generator)

    def departure(rows: Tensor) -> Departure:
        features = net(rows)
        apart = torch.cdist(torch.from_numpy(features), torch.from_numpy(reference))
        nearest = float(apart.min(1).values.mean())
        return Departure(frechet_distance(reference, features), nearest)

    halfway = slerp(mu.numpy(), mu[other].numpy(), steps=3)[:, 1]
    return Departures(
        rows=len(x),
        accuracy=net.accuracy,
        held_out=departure(x),
        reconstruction=departure(subject.decode(mu)),
        prior=departure(subject.decode(z)),
        midpoint=departure(subject.decode(torch.from_numpy(halfway))),
        cross_fade=departure((x + x[other]) / 2),
    )


def _partners(rows: int, generator: torch.Generator) -> Tensor:
    """Another row for each row: along a random cycle, so that none meets itself."""
    order = torch.randperm(rows, generator=generator)
    partners = torch.empty_like(order)
    partners[order] = order.roll(1)
    return partners
