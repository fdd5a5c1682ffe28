"""p(x|z): what a decoder's raw output says about a row."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

_BELOW_ONE = 1 - 2**-24  # the float32 next to 1: a saturated sigmoid has forgotten its logit
_ABOVE_ZERO = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class Likelihood:
    """The density of a row's elements, independent given z.

    Attributes:
        name: "bernoulli" or "gaussian".
        variance: of the Gaussian, in squared data units.
    """

    name: str
    variance: float = 0.0

    def nats(self, raw: Tensor, x: Tensor) -> Tensor:
        """-log p(x|z), summed over a row's elements.

        Bernoulli: the cross-entropy -(x log p + (1 - x) log(1 - p)), from logits so that it cannot
        overflow. Grey levels are taken as probabilities: it is then the mean over binarised
        pictures. Gaussian with variance v: ((x - mean)^2 / v + log(2 pi v)) / 2, the density with
        its constant.

        Args:
            raw: the decoder's raw output [rows, ...]: logits or means.
            x: the rows themselves, same shape; in [0, 1] if Bernoulli.

        Returns:
            Nats, [rows].
        """
        if self.name == "bernoulli":
            elements = F.binary_cross_entropy_with_logits(raw, x, reduction="none")
        else:
            constant = math.log(2 * math.pi * self.variance)
            elements = 0.5 * ((x - raw).square() / self.variance + constant)
        return elements.flatten(1).sum(1)

    def mean(self, raw: Tensor) -> Tensor:
        """The mean of p(x|z), which a decoder graph returns, of the raw output."""
        return raw.sigmoid() if self.name == "bernoulli" else raw

    def raw(self, mean: Tensor) -> Tensor:
        """The raw output of the mean: the inverse of `mean`, as far as float32 remembers it."""
        if self.name != "bernoulli":
            return mean
        return mean.clamp(min=_ABOVE_ZERO).log() - (-mean.clamp(max=_BELOW_ONE)).log1p()
