"""The variational autoencoder: encoder q(z|x) and decoder p(x|z), all of it in this file.

Kingma and Welling, "Auto-Encoding Variational Bayes", 2014. Encoder and decoder are modules of
their own because they become two ONNX graphs. Neither holds BatchNorm or Dropout: a row's result
must not depend on the rows beside it in a batch, nor on a train/eval switch.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from vaeserve_export.errors import TrainError
from vaeserve_export.vae.likelihood import Likelihood

LOG_VAR_MIN, LOG_VAR_MAX = -12.0, 6.0
"""Range of log_var, clamped inside the graph: exp() of it can neither overflow nor vanish."""

_SMALLEST_SIDE = 7  # the conv net halves a picture until its longer side is at most this
_FIRST_CHANNELS, _MOST_CHANNELS = 32, 128


@dataclass(frozen=True, kw_only=True)
class VaeConfig:
    """What the architecture depends on.

    Attributes:
        model: "mlp" or "conv".
        input_shape: shape of one row; "conv" takes [1 or 3 channels, height, width] of any size.
        latent_dim: latent dimensions.
        hidden: width of the hidden layer next to the latents.
        likelihood: "bernoulli" or "gaussian".
        gaussian_variance: variance of the Gaussian likelihood, in squared data units.

    Raises:
        TrainError: "conv" on rows that are no pictures.
    """

    model: str
    input_shape: tuple[int, ...]
    latent_dim: int
    hidden: int
    likelihood: str
    gaussian_variance: float

    def __post_init__(self) -> None:
        if self.model == "conv" and (
            len(self.input_shape) != 3 or self.input_shape[0] not in {1, 3}
        ):
            raise TrainError(
                f"model conv needs pictures of 1 or 3 channels, rows have shape "
                f"{list(self.input_shape)}; use model mlp"
            )


class Encoder(nn.Module):
    """q(z|x) = N(mu(x), diag(exp(log_var(x))))."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        body = _conv_encoder if config.model == "conv" else _mlp_encoder
        self.body = body(config)
        self.head = nn.Linear(config.hidden, 2 * config.latent_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map x [batch, *input_shape] to mu, log_var [batch, latent_dim]; log_var in [-12, 6]."""
        mu, log_var = self.head(self.body(x)).chunk(2, dim=1)
        return mu, log_var.clamp(LOG_VAR_MIN, LOG_VAR_MAX)


class Decoder(nn.Module):
    """p(x|z), Bernoulli or Gaussian with a fixed variance."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        body = _conv_decoder if config.model == "conv" else _mlp_decoder
        self.body = body(config)
        self.likelihood = Likelihood(config.likelihood, config.gaussian_variance)

    def raw(self, z: Tensor) -> Tensor:
        """Map z [batch, latent_dim] to [batch, *input_shape]: logits, or means if Gaussian."""
        output: Tensor = self.body(z)
        return output

    def forward(self, z: Tensor) -> Tensor:
        """Map z [batch, latent_dim] to x_hat [batch, *input_shape], the mean of p(x|z).

        Bernoulli: the probability, in [0, 1]. Gaussian: unbounded, also for pictures, so that the
        density is the one that was optimised; whoever shows a picture clips it.
        """
        return self.likelihood.mean(self.raw(z))


class Vae(nn.Module):
    """Encoder and decoder of one latent space."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    @property
    def likelihood(self) -> Likelihood:
        """p(x|z)."""
        return self.decoder.likelihood


def build(config: VaeConfig, seed: int) -> Vae:
    """Make a Vae with PyTorch's default initial weights; leaves the global generator alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Vae(config)


def reparameterise(mu: Tensor, log_var: Tensor, eps: Tensor) -> Tensor:
    """Draw z = mu + sigma * eps, which lets the gradient through (Kingma and Welling, 2.4)."""
    return mu + torch.exp(0.5 * log_var) * eps


def _mlp_encoder(config: VaeConfig) -> nn.Sequential:
    size = math.prod(config.input_shape)
    return nn.Sequential(nn.Flatten(1), nn.Linear(size, config.hidden), nn.ReLU())


def _mlp_decoder(config: VaeConfig) -> nn.Sequential:
    size = math.prod(config.input_shape)
    return nn.Sequential(
        nn.Linear(config.latent_dim, config.hidden),
        nn.ReLU(),
        nn.Linear(config.hidden, size),
        nn.Unflatten(1, config.input_shape),
    )


def _conv_shapes(config: VaeConfig) -> list[tuple[int, int, int]]:
    """[channels, height, width] from the picture down to the smallest map; at least one halving."""
    channels, height, width = config.input_shape
    shapes = [(channels, height, width)]
    channels = _FIRST_CHANNELS
    while len(shapes) == 1 or max(height, width) > _SMALLEST_SIDE:
        height, width = (height + 1) // 2, (width + 1) // 2
        shapes.append((channels, height, width))
        channels = min(2 * channels, _MOST_CHANNELS)
    return shapes


def _conv_encoder(config: VaeConfig) -> nn.Sequential:
    """3x3 convolutions with stride 2, each halving the picture (rounded up)."""
    shapes = _conv_shapes(config)
    layers: list[nn.Module] = []
    for above, below in pairwise(shapes):
        layers += [nn.Conv2d(above[0], below[0], 3, stride=2, padding=1), nn.ReLU()]
    size = math.prod(shapes[-1])
    return nn.Sequential(*layers, nn.Flatten(1), nn.Linear(size, config.hidden), nn.ReLU())


def _conv_decoder(config: VaeConfig) -> nn.Sequential:
    """The encoder's maps in reverse order, by transposed convolutions."""
    shapes = _conv_shapes(config)[::-1]
    layers: list[nn.Module] = [
        nn.Linear(config.latent_dim, config.hidden),
        nn.ReLU(),
        nn.Linear(config.hidden, math.prod(shapes[0])),
        nn.Unflatten(1, shapes[0]),
    ]
    for below, above in pairwise(shapes):
        # A side n that was halved to (n + 1) // 2 comes back as n if even sides are padded by one.
        padding = (1 - above[1] % 2, 1 - above[2] % 2)
        up = nn.ConvTranspose2d(below[0], above[0], 3, stride=2, padding=1, output_padding=padding)
        layers += [nn.ReLU(), up]
    return nn.Sequential(*layers)
