"""The nets that are measured: the project's own, and one of Stable Diffusion's size.

The last is the decoder of Stable Diffusion's autoencoder (Rombach et al. 2022, "High-Resolution
Image Synthesis with Latent Diffusion Models"), layer for layer, with random weights: 49.49 million
parameters. The encoder beside it is small and only of the right shapes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from vaeserve_export.vae.model import LOG_VAR_MAX, LOG_VAR_MIN, VaeConfig, build

Modules = tuple[nn.Module, nn.Module]
"""Encoder and decoder."""

_GROUPS = 32
_SEED = 0
_LAST_SCALE = 0.25  # so that random weights give pictures of about [-1, 1], as trained ones do


@dataclass(frozen=True)
class Net:
    """A net to be measured.

    Attributes:
        name: of its bundles.
        input_shape: of one row.
        latent_shape: of one row.
        likelihood: "bernoulli" or "gaussian".
        level: scale and offset that make a uint8 level a model value.
        most_rows: largest batch that is tried.
        request_rows: in a request of a caller who wants throughput.
        graphs: which of its two are measured.
        make: its modules, the same weights each time.
    """

    name: str
    input_shape: tuple[int, ...]
    latent_shape: tuple[int, ...]
    likelihood: str
    level: tuple[float, float]
    most_rows: int
    request_rows: int
    graphs: tuple[str, ...]
    make: Callable[[], Modules]

    def row_shape(self, graph: str) -> tuple[int, ...]:
        """Shape of an input row of `encoder` or `decoder`."""
        return self.input_shape if graph == "encoder" else self.latent_shape

    def module(self, graph: str) -> nn.Module:
        """That module, in eval mode."""
        return self.make()[graph == "decoder"].eval()


class ResidualBlock(nn.Module):
    """Two convolutions with group norm before each; a 1x1 where the channels change."""

    def __init__(self, below: int, above: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(_GROUPS, below, eps=1e-6),
            nn.SiLU(),
            nn.Conv2d(below, above, 3, padding=1),
            nn.GroupNorm(_GROUPS, above, eps=1e-6),
            nn.SiLU(),
            nn.Conv2d(above, above, 3, padding=1),
        )
        self.shortcut = nn.Identity() if below == above else nn.Conv2d(below, above, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.shortcut(x) + self.body(x)
        return y


class AttentionBlock(nn.Module):
    """One head of attention over all positions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(_GROUPS, channels, eps=1e-6)
        self.query, self.key, self.value, self.out = (
            nn.Linear(channels, channels) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        rows = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = self.query(rows), self.key(rows), self.value(rows)
        weights = torch.softmax(q @ k.transpose(1, 2) * q.shape[-1] ** -0.5, dim=-1)
        y = self.out(weights @ v).transpose(1, 2)
        attended: Tensor = x + y.unflatten(2, x.shape[2:])
        return attended


class SdDecoder(nn.Module):
    """z [rows, 4, side, side] -> x_hat [rows, 3, 8 side, 8 side], in [-1, 1] once it is trained.

    Args:
        channels: of the blocks from the picture inwards; each but the outermost doubles the side.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        inner = channels[-1]
        parts: list[nn.Module] = [
            nn.Conv2d(4, 4, 1),
            nn.Conv2d(4, inner, 3, padding=1),
            ResidualBlock(inner, inner),
            AttentionBlock(inner),
            ResidualBlock(inner, inner),
        ]
        below = inner
        for block, above in enumerate(reversed(channels), 1):
            parts += [ResidualBlock(below if layer == 0 else above, above) for layer in range(3)]
            if block < len(channels):
                parts += [nn.Upsample(scale_factor=2.0), nn.Conv2d(above, above, 3, padding=1)]
            below = above
        parts += [nn.GroupNorm(_GROUPS, below, eps=1e-6), nn.SiLU()]
        last = nn.Conv2d(below, 3, 3, padding=1)
        with torch.no_grad():
            last.weight.mul_(_LAST_SCALE)
        self.body = nn.Sequential(*parts, last)

    def forward(self, z: Tensor) -> Tensor:
        x_hat: Tensor = self.body(z)
        return x_hat


class SdEncoder(nn.Module):
    """x [rows, 3, 8 side, 8 side] -> mu, log_var [rows, 4, side, side]."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 64, 64)
        halvings = [
            nn.Sequential(nn.Conv2d(below, above, 3, stride=2, padding=1), nn.SiLU())
            for below, above in pairwise(widths)
        ]
        self.body = nn.Sequential(*halvings, nn.Conv2d(widths[-1], 8, 3, padding=1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu, log_var = self.body(x).chunk(2, dim=1)
        return mu, log_var.clamp(LOG_VAR_MIN, LOG_VAR_MAX)


def sd_modules(channels: Sequence[int]) -> Modules:
    """Encoder and decoder with random weights, the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        return SdEncoder(), SdDecoder(channels)


def _own_modules(model: str, input_shape: tuple[int, ...], latent: int) -> Modules:
    config = VaeConfig(
        model=model,
        input_shape=input_shape,
        latent_dim=latent,
        hidden=256,
        likelihood="bernoulli",
        gaussian_variance=0.0,
    )
    vae = build(config, _SEED)
    return vae.encoder, vae.decoder


def _own(name: str, model: str, shape: tuple[int, ...], latent: int, most: int, rows: int) -> Net:
    make = partial(_own_modules, model, shape, latent)
    graphs = ("encoder", "decoder")
    return Net(name, shape, (latent,), "bernoulli", (1 / 255, 0.0), most, rows, graphs, make)


def _sd(name: str, side: int, channels: tuple[int, ...], most: int, rows: int) -> Net:
    scale = 2 ** (len(channels) - 1)
    assert scale == 8, "the encoder halves three times"
    picture, latent = (3, scale * side, scale * side), (4, side, side)
    make = partial(sd_modules, channels)
    level = (2 / 255, -1.0)
    return Net(name, picture, latent, "gaussian", level, most, rows, ("decoder",), make)


SD_CHANNELS = (128, 256, 512, 512)

MLP = _own("mlp", "mlp", (1, 28, 28), 20, 1024, 64)
CONV64 = _own("conv64", "conv", (3, 64, 64), 128, 1024, 64)
CONV256 = _own("conv256", "conv", (3, 256, 256), 128, 256, 16)
SD512 = _sd("sd512", 64, SD_CHANNELS, 16, 1)
TINY = replace(_sd("tiny", 2, (32, 32, 32, 32), most=4, rows=2), graphs=("encoder", "decoder"))
"""Of the last one's kind, for dry runs."""


def parameters(module: nn.Module) -> int:
    """How many weights a module has."""
    return sum(math.prod(weight.shape) for weight in module.parameters())
