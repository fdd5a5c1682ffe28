"""The variational autoencoder: encoder q(z|x) and decoder p(x|z).

Kingma and Welling, "Auto-Encoding Variational Bayes", 2014. Encoder and decoder are modules of
their own because they become two ONNX graphs. Neither holds BatchNorm or Dropout: a row's result
must not depend on the rows beside it in a batch, nor on a train/eval switch.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vaeserve_export.errors import TrainError
from vaeserve_export.vae import conv, mlp
from vaeserve_export.vae.likelihood import Likelihood, gaussian_nats

LOG_VAR_MIN, LOG_VAR_MAX = -12.0, 6.0
"""Range of log_var, clamped inside the graph: exp() of it can neither overflow nor vanish."""


@dataclass(frozen=True, kw_only=True)
class VaeConfig:
    """What the architecture depends on.

    Attributes:
        model: "mlp" or "conv"; "ae" or "conv-ae" for the plain autoencoder of the same net. The
            convolutional ones take [1 or 3 channels, height, width] of any size.
        input_shape: shape of one row.
        latent_dim: latent dimensions.
        hidden: width of the hidden layers; of a convolutional net the one next to the latents.
        layers: hidden layers of an mlp, in either direction.
        activation: "relu", "tanh", "silu" or "gated".
        likelihood: "bernoulli", "continuous-bernoulli" or "gaussian".
        gaussian_variance: variance of the Gaussian likelihood, in squared data units.
        learn_variance: that variance is only where its training starts, at exp(-12) or above.

    Raises:
        TrainError: a convolutional net on rows that are no pictures.
    """

    model: str
    input_shape: tuple[int, ...]
    latent_dim: int
    hidden: int
    likelihood: str
    gaussian_variance: float
    layers: int = 1
    activation: str = "relu"
    learn_variance: bool = False

    def __post_init__(self) -> None:
        if self.convolutional and (len(self.input_shape) != 3 or self.input_shape[0] not in {1, 3}):
            plain = "ae" if self.autoencoder else "mlp"
            raise TrainError(
                f"model {self.model} needs pictures of 1 or 3 channels, rows have shape "
                f"{list(self.input_shape)}; use model {plain}"
            )

    @property
    def convolutional(self) -> bool:
        """The net is made of convolutions."""
        return self.model in {"conv", "conv-ae"}

    @property
    def autoencoder(self) -> bool:
        """Codes are points: no noise, no KL."""
        return self.model in {"ae", "conv-ae"}


class Encoder(nn.Module):
    """q(z|x) = N(mu(x), diag(exp(log_var(x)))).

    A plain autoencoder's code is mu; its log_var is the smallest there is, so that whatever reads
    it, the exported graph included, sees a posterior that is next to a point.
    """

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        if config.convolutional:
            channels, height, width = config.input_shape
            self.body = conv.encoder((channels, height, width), config.hidden, config.activation)
        else:
            self.body = mlp.encoder(
                config.input_shape, config.hidden, config.layers, config.activation
            )
        self.autoencoder = config.autoencoder
        outputs = config.latent_dim if config.autoencoder else 2 * config.latent_dim
        self.head = nn.Linear(config.hidden, outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map x [batch, *input_shape] to mu, log_var [batch, latent_dim]; log_var in [-12, 6]."""
        head = self.head(self.body(x))
        if self.autoencoder:
            return head, torch.full_like(head, LOG_VAR_MIN)
        mu, log_var = head.chunk(2, dim=1)
        return mu, log_var.clamp(LOG_VAR_MIN, LOG_VAR_MAX)


class Decoder(nn.Module):
    """p(x|z): what the latents say about a row."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        if config.convolutional:
            channels, height, width = config.input_shape
            self.body = conv.decoder(
                (channels, height, width), config.latent_dim, config.hidden, config.activation
            )
        else:
            self.body = mlp.decoder(
                config.input_shape,
                config.latent_dim,
                config.hidden,
                config.layers,
                config.activation,
            )
        self._fixed = Likelihood(config.likelihood, config.gaussian_variance)
        self.log_variance: nn.Parameter | None = None
        if config.learn_variance:
            start = max(LOG_VAR_MIN, math.log(config.gaussian_variance))
            self.log_variance = nn.Parameter(torch.tensor(start))

    @property
    def likelihood(self) -> Likelihood:
        """p(x|z), with the variance as it is now if it is learned."""
        if self.log_variance is None:
            return self._fixed
        return Likelihood("gaussian", math.exp(self._log_variance(self.log_variance).item()))

    def raw(self, z: Tensor) -> Tensor:
        """Map z [batch, latent_dim] to [batch, *input_shape]: logits, or means if Gaussian."""
        output: Tensor = self.body(z)
        return output

    def nats(self, raw: Tensor, x: Tensor) -> Tensor:
        """-log p(x|z) in nats, [rows], of the raw output; its gradient reaches a learned variance.

        One variance for all elements, learned with the weights, of at least exp(-12): a sigma of
        exp(-6), as with Rybkin et al. 2021, "sigma-VAE". There is no largest: it is that of the
        data's own units.
        """
        if self.log_variance is None:
            return self._fixed.nats(raw, x)
        return gaussian_nats(raw, x, self._log_variance(self.log_variance))

    def forward(self, z: Tensor) -> Tensor:
        """Map z [batch, latent_dim] to x_hat [batch, *input_shape].

        Bernoulli: the probability, in [0, 1]. Continuous Bernoulli: its parameter lambda, in
        [0, 1]. Gaussian: the mean, unbounded, also for pictures, so that the density is the one
        that was optimised; whoever shows a picture clips it.
        """
        return self._fixed.mean(self.raw(z))

    @staticmethod
    def _log_variance(parameter: Tensor) -> Tensor:
        # To the gradient as if it were not held: that of a clamp is 0, and what has once fallen
        # below could never rise again.
        return parameter + (parameter.clamp(min=LOG_VAR_MIN) - parameter).detach()


class Vae(nn.Module):
    """Encoder and decoder of one latent space."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    @property
    def likelihood(self) -> Likelihood:
        """p(x|z), with the variance as it is now if it is learned."""
        return self.decoder.likelihood


def build(config: VaeConfig, seed: int) -> Vae:
    """Make a Vae with PyTorch's default initial weights; leaves the global generator alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Vae(config)


def reparameterise(mu: Tensor, log_var: Tensor, eps: Tensor) -> Tensor:
    """Draw z = mu + sigma * eps, which lets the gradient through (Kingma and Welling, 2.4)."""
    return mu + torch.exp(0.5 * log_var) * eps
