"""Shapes, ranges and independence of rows for both architectures."""

import pytest
import torch

from vaeserve_export.errors import TrainError
from vaeserve_export.vae.model import (
    LOG_VAR_MAX,
    LOG_VAR_MIN,
    Vae,
    VaeConfig,
    build,
    reparameterise,
)


def make(model: str, *input_shape: int, likelihood: str = "bernoulli", seed: int = 0) -> Vae:
    config = VaeConfig(
        model=model,
        input_shape=input_shape,
        latent_dim=4,
        hidden=16,
        likelihood=likelihood,
        gaussian_variance=0.1,
    )
    return build(config, seed)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        ("mlp", (6,)),
        ("mlp", (1, 8, 8)),
        ("mlp", (3, 5, 7)),
        ("conv", (1, 1, 1)),
        ("conv", (1, 5, 40)),
        ("conv", (1, 8, 8)),
        ("conv", (3, 17, 23)),
        ("conv", (1, 28, 28)),
        ("conv", (3, 31, 33)),
        ("conv", (1, 64, 64)),
    ],
)
@torch.no_grad()
def test_shapes(model: str, shape: tuple[int, ...]) -> None:
    vae = make(model, *shape)
    mu, log_var = vae.encoder(torch.rand(3, *shape))
    x_hat = vae.decoder(mu)
    assert mu.shape == log_var.shape == (3, 4)
    assert x_hat.shape == (3, *shape)
    assert x_hat.min() >= 0
    assert x_hat.max() <= 1


@torch.no_grad()
def test_gaussian_means_are_unbounded() -> None:
    vae = make("mlp", 6, likelihood="gaussian")
    z = 1000 * torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    assert vae.decoder(z).abs().max() > 1
    torch.testing.assert_close(vae.decoder(z), vae.decoder.raw(z))


@torch.no_grad()
def test_log_var_is_clamped_inside_the_graph() -> None:
    _, log_var = make("mlp", 6).encoder(1e6 * torch.randn(64, 6))
    assert log_var.min() == LOG_VAR_MIN
    assert log_var.max() == LOG_VAR_MAX


@pytest.mark.parametrize("model", ["mlp", "conv"])
@torch.no_grad()
def test_a_row_does_not_depend_on_its_neighbours(model: str) -> None:
    vae = make(model, 1, 8, 8)
    x = torch.rand(5, 1, 8, 8)
    other = torch.cat([x[:1], torch.rand(4, 1, 8, 8)])
    assert torch.equal(vae.encoder(x)[0][0], vae.encoder(other)[0][0])
    assert not [m for m in vae.modules() if "Norm" in type(m).__name__ or "Drop" in str(type(m))]


def test_reparameterise() -> None:
    z = reparameterise(torch.tensor([1.0]), torch.tensor([2 * 0.6931472]), torch.tensor([3.0]))
    torch.testing.assert_close(z, torch.tensor([7.0]))


def test_initial_weights_follow_the_seed_and_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (make("mlp", 6, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.encoder.head.weight, again.encoder.head.weight)
    assert not torch.equal(first.encoder.head.weight, other.encoder.head.weight)


@pytest.mark.parametrize("shape", [(6,), (2, 8, 8), (8, 8)])
def test_conv_refuses_what_is_no_picture(shape: tuple[int, ...]) -> None:
    with pytest.raises(TrainError, match="model conv needs pictures of 1 or 3 channels"):
        make("conv", *shape)
