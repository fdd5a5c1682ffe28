"""With which weight of the KL a model was trained, measured on the model itself.

A recorded setting says what somebody meant. A sum that became a mean, in either term, multiplies
the weight silently; what the model does still tells it. Where training has settled, no change of
sigma lowers reconstruction + weight * KL any more. So scale the posterior's sigma by c and look at
c = 1: with eps fixed,

    weight = d/dlog c E[-log p(x | mu + c sigma eps)]  /  E sum_j (1 - sigma_j^2)

for the KL falls by 1 - sigma_j^2 in dimension j. A sound VAE measures 1, an autoencoder 0. Where
log_var is held at the lower end of its range sigma would go on falling: such elements have no part
in the measure, and where nearly all are held, what they measure is an upper bound of the weight.
Where free bits hold a dimension at their floor the KL costs nothing: it has no part either.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vaeserve_export.trained.subject import Subject
from vaeserve_export.vae.model import LOG_VAR_MIN
from vaeserve_export.vae.objective import kl_by_dimension

_STEP = 0.1  # of c; its square is the error of the difference quotient
_DRAWS = 4  # a row, in pairs of opposite noise
_COSTLY = 0.5  # nats: below, unknown free bits may have taken a dimension's KL out of the loss
_ABOVE_FLOOR = 1.25  # times the free bits: a dimension held there lies a little above or below
_LEAST = 0.01  # nats: a KL below this cannot be weighed
_NOTHING = 0.001  # a weight below this is not worth its digits
_ELEMENTS = 1 << 22  # of a decoded batch


@dataclass(frozen=True)
class KlWeight:
    """A measured weight.

    Attributes:
        value: of the KL in units of the reconstruction in nats, both summed.
        error: its standard error.
        at_most: the value is an upper bound: log_var is held at the lower end of its range.
    """

    value: float
    error: float
    at_most: bool

    def __str__(self) -> str:
        """The value with its error, for a person."""
        if self.value + self.error < _NOTHING:
            return f"less than {_NOTHING:g}"
        return f"{self.value:.3g} ± {self.error:.1g}"


def kl_weight(
    subject: Subject, x: Tensor, *, free_bits: float = 0.0, seed: int = 0
) -> KlWeight | None:
    """Measure the weight of the KL.

    Args:
        subject: a trained model; only its outputs are used, no gradient.
        x: rows that it was trained on, as it was (binarised where it was), [rows, ...]. A thousand
            give two digits. Rows it has not seen measure their own optimum, which is near.
        free_bits: nats of KL in each latent dimension that cost nothing in its training.
        seed: of the noise.

    Returns:
        None if no latent dimension carries anything that could be weighed.
    """
    mu, log_var = subject.encode(x)
    kl = kl_by_dimension(mu, log_var).mean(0)
    if kl.max() < _LEAST:
        return None
    least = max(min(_COSTLY, float(kl.max()) / 2), _ABOVE_FLOOR * free_bits)
    # Dimensions of whose KL every nat costs.
    costly = (kl >= least).expand_as(mu)
    # Of their elements those whose sigma could follow its gradient either way.
    following = costly & (log_var > LOG_VAR_MIN)
    # Whether too few could: then all are taken, and sigma would be smaller if it were not held.
    held = 2 * int(following.sum()) < int(costly.sum())
    # Elements whose sigma is scaled by c.
    scaled = costly if held else following
    generator = torch.Generator().manual_seed(seed)
    half = torch.randn(len(x), _DRAWS // 2, subject.latent_dim, generator=generator)
    noise = (0.5 * log_var).exp()[:, None] * torch.cat([half, -half], 1)

    def reconstruction(scale: float) -> Tensor:
        scales = torch.where(scaled, scale, 1.0)[:, None]
        size = max(1, _ELEMENTS // (_DRAWS * x[0].numel()))
        z = mu[:, None] + scales * noise
        batches = zip(torch.split(x, size), torch.split(z, size), strict=True)
        nats = [subject.reconstruction_nats(rows, draws) for rows, draws in batches]
        return torch.cat(nats).double().mean(1)

    rise = reconstruction(1 + _STEP) - reconstruction(1 - _STEP)
    rise /= math.log(1 + _STEP) - math.log(1 - _STEP)
    fall = (scaled * (1 - log_var.double().exp())).sum(1)
    if fall.mean() < _LEAST:  # sigma at or above the prior's: nothing pulls it there
        return None
    value = rise.mean() / fall.mean()
    error = (rise - value * fall).std() / fall.mean() / math.sqrt(len(x))
    if not torch.isfinite(value + error):
        return None
    return KlWeight(float(value), float(error), held)


def worthwhile_weight(subject: Subject, x: Tensor) -> float:
    """The KL weight up to which a latent dimension pays on these rows.

    A decoder that ignores its latents gives every row the data's mean. One linear latent lowers
    that loss if the largest variance of the rows along any direction, in units of the likelihood's
    own variance, exceeds the weight: so it is with probabilistic PCA (Lucas et al. 2019, "Don't
    blame the ELBO"); for Bernoulli elements it is the second-order term. A collapse at a smaller
    weight is one that training could have left.

    Args:
        subject: whose likelihood is meant.
        x: rows [rows, ...], at least two; half of them choose the direction, the others measure
            along it.

    Returns:
        That weight; 0 if no element varies.
    """
    rows = x.flatten(1).double()
    centred = rows - rows.mean(0)
    variance = subject.likelihood.element_variance(rows.mean(0))
    varies = variance > 1e-6 * variance.max()
    if not varies.any():
        return 0.0
    scaled = centred[:, varies] / variance[varies].sqrt()
    _, _, directions = torch.linalg.svd(scaled[::2], full_matrices=False)
    return float((scaled[1::2] @ directions[0]).square().mean())
