"""p(x|z): what a decoder's raw output says about a row."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

L2_VARIANCE = 0.5
"""With this variance the Gaussian's -log p(x|z) is the squared error plus a constant."""

# A probability nearer to 0 or 1 counts as this one, as in torch.distributions: what sigmoids make
# of a logit out there differs from engine to engine (ONNX Runtime's end at 18); scores must not.
_MARGIN = 2**-23
_HALVINGS = 4  # of the elements whose factors are multiplied
_SERIES_BELOW = 0.5  # logits whose normalising constant is better summed than divided
_LARGEST_LOGIT = math.log(1 / _MARGIN - 1)
_BISECTIONS = 60  # of an interval of twice that: to the last bit of a double


@dataclass(frozen=True)
class Likelihood:
    """The density of a row's elements, independent given z.

    Attributes:
        name: "bernoulli", "continuous-bernoulli" or "gaussian".
        variance: of the Gaussian, in squared data units.
    """

    name: str
    variance: float = 0.0

    def nats(self, raw: Tensor, x: Tensor) -> Tensor:
        """-log p(x|z), summed over a row's elements.

        Bernoulli: the cross-entropy -(x log p + (1 - x) log(1 - p)), from logits so that it cannot
        overflow. Grey levels are taken as probabilities: it is then the mean over binarised
        pictures. Continuous Bernoulli: the same with its normalising constant, a density on
        [0, 1]. Gaussian with variance v: ((x - mean)^2 / v + log(2 pi v)) / 2, the density with
        its constant.

        Args:
            raw: the decoder's raw output [rows, ...]: logits or means.
            x: the rows themselves, same shape; in [0, 1] unless Gaussian.

        Returns:
            Nats, [rows].
        """
        if self.name == "gaussian":
            return gaussian_nats(raw, x, math.log(self.variance))
        elements = F.binary_cross_entropy_with_logits(raw, x, reduction="none")
        if self.name == "continuous-bernoulli":
            elements = elements - log_normaliser(raw)
        return elements.flatten(1).sum(1)

    def draw_nats(self, raw: Tensor, x: Tensor) -> Tensor:
        """-log p(x|z) of a row under each of its draws: what `nats` gives, in fewer passes.

        Args:
            raw: the decoder's raw output [rows, draws, elements]; it is overwritten, since memory
                that is touched for the first time costs as much as the arithmetic.
            x: [rows, elements].

        Returns:
            Nats, [rows, draws].
        """
        if self.name == "gaussian":
            squares = raw.sub_(x[:, None]).square_().sum(2)
            constant = x.shape[1] * math.log(2 * math.pi * self.variance)
            return 0.5 * (squares / self.variance + constant)
        nats = -log_normaliser(raw).sum(2) if self.name == "continuous-bernoulli" else 0.0
        # Cross-entropy = softplus(l) - x l = |l|/2 - (x - 1/2) l + log(1 + exp(-|l|)), whose second
        # term is a matrix product; a logarithm serves several elements, as 1 + exp(-|l|) <= 2.
        nats = nats - _dot(raw, x - 0.5)
        size = raw.abs_()
        nats = nats + 0.5 * size.sum(2)
        factors = size.neg_().exp_().add_(1)
        for _ in range(_HALVINGS):
            half, odd = divmod(factors.shape[2], 2)
            if odd:
                break
            factors = factors[..., :half].mul_(factors[..., half:])
        return nats + factors.log().sum(2)

    def mean_draw_nats(self, mean: Tensor, x: Tensor) -> Tensor:
        """`draw_nats` of what a decoder graph returns, as far as float32 remembers the raw output.

        Args:
            mean: [rows, draws, elements]; it is overwritten.
            x: [rows, elements].
        """
        if self.name != "bernoulli":
            return self.draw_nats(self.raw(mean), x)
        mean = mean.clamp_(_MARGIN, 1 - _MARGIN)
        log_zero = (1 - mean).log_()
        logits = mean.log_().sub_(log_zero)
        return -_dot(logits, x) - log_zero.sum(2)

    def mean(self, raw: Tensor) -> Tensor:
        """What a decoder graph returns, of the raw output.

        The mean of p(x|z); of the continuous Bernoulli its parameter lambda, which is near it.
        """
        return raw if self.name == "gaussian" else raw.sigmoid()

    def raw(self, mean: Tensor) -> Tensor:
        """The raw output of the mean: the inverse of `mean`, as far as every engine knows it.

        Logits end at log(2^23 - 1), 15.9.
        """
        if self.name == "gaussian":
            return mean
        return mean.clamp(_MARGIN, 1 - _MARGIN).logit()

    def constant(self, mean: Tensor) -> Tensor:
        """The raw output under which rows of this mean are most probable, the same for all rows.

        Of these densities it is the one whose own mean is that of the rows. Of the continuous
        Bernoulli's, unlike `raw`, lambda is not the mean.

        Args:
            mean: of the rows, [...]; in [0, 1] unless Gaussian.
        """
        if self.name != "continuous-bernoulli":
            return self.raw(mean)
        return _logits_of_mean(mean.double()).to(mean.dtype)

    def element_variance(self, mean: Tensor) -> Tensor:
        """The variance of an element under p(x|z) where its mean under p(x|z) is this one.

        Args:
            mean: [...]; in [0, 1] unless Gaussian.
        """
        if self.name == "gaussian":
            return torch.full_like(mean, self.variance)
        if self.name == "bernoulli":
            return mean * (1 - mean)
        _, variance = _moments(_logits_of_mean(mean.double()))
        return variance.to(mean.dtype)


def gaussian_nats(mean: Tensor, x: Tensor, log_variance: Tensor | float) -> Tensor:
    """-log N(x; mean, v I), summed over a row's elements: nats, [rows].

    Args:
        mean: [rows, ...].
        x: [rows, ...].
        log_variance: log v, of squared data units; a tensor (a scalar) if it is learned.
    """
    precision = torch.exp(-torch.as_tensor(log_variance, dtype=mean.dtype, device=mean.device))
    elements = math.prod(x.shape[1:])  # of no rows too: a process's share may be empty
    squares = (x - mean).square().flatten(1).sum(1)
    return 0.5 * (squares * precision + elements * (math.log(2 * math.pi) + log_variance))


def _dot(draws: Tensor, x: Tensor) -> Tensor:
    """Products of x [rows, elements] with draws [rows, draws, elements]: [rows, draws]."""
    return torch.matmul(draws, x[:, :, None])[:, :, 0]


def log_normaliser(logits: Tensor) -> Tensor:
    """Log C(lambda) of the continuous Bernoulli, element by element.

    C = 2 artanh(1 - 2 lambda) / (1 - 2 lambda), and 2 at lambda = 1/2 (Loaiza-Ganem and Cunningham
    2019, equation 6). With lambda = sigmoid(l) that is l / tanh(l / 2), an even function of l; near
    0, where it would be 0 / 0, the first terms of its series in u = l / 2 are used:
    log(u coth u) = u^2/3 - 7 u^4/90 + 62 u^6/2835 - 127 u^8/18900 + ...

    Args:
        logits: log(lambda / (1 - lambda)).
    """
    size = logits.abs()
    near = size < _SERIES_BELOW
    # Each branch sees harmless values where the other is taken, or its gradient would be 0 * inf.
    far_half = torch.where(near, torch.ones_like(size), size) / 2
    square = torch.where(near, size / 2, torch.zeros_like(size)).square()
    series = square * (1 / 3 - square * (7 / 90 - square * (62 / 2835 - square * 127 / 18900)))
    return math.log(2) + torch.where(near, series, (far_half / far_half.tanh()).log())


def _moments(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of the continuous Bernoulli, element by element.

    They are the derivatives of log(1 + e^l) - log C: with u = l / 2 the mean is
    1/2 + (coth u - 1/u) / 2, the variance (1/u^2 - 1/sinh(u)^2) / 4. Near 0 the first terms of
    their series: coth u - 1/u = u/3 - u^3/45 + 2 u^5/945 - ...

    Args:
        logits: float64, log(lambda / (1 - lambda)).
    """
    half = logits / 2
    near = half.abs() < _SERIES_BELOW / 10
    far = torch.where(near, torch.ones_like(half), half)
    square = half.square()
    centred = torch.where(
        near, half * (1 / 3 - square * (1 / 45 - square * 2 / 945)), 1 / far.tanh() - 1 / far
    )
    slope = torch.where(
        near, 1 / 3 - square * (1 / 15 - square * 2 / 189), far**-2 - far.sinh() ** -2
    )
    return 0.5 + centred / 2, slope / 4


def _logits_of_mean(mean: Tensor) -> Tensor:
    """The logits of the continuous Bernoulli of this mean, float64; they end where `raw`'s do."""
    low = torch.full_like(mean, -_LARGEST_LOGIT)
    high = -low
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        below = _moments(middle)[0] < mean
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2
