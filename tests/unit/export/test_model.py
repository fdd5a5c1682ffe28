"""Shapes, ranges and independence of rows for both architectures."""

import math

import pytest
import torch

from vaeserve_export.errors import TrainError
from vaeserve_export.vae.layers import Gated, activated
from vaeserve_export.vae.model import (
    LOG_VAR_MAX,
    LOG_VAR_MIN,
    Vae,
    VaeConfig,
    build,
    reparameterise,
)


def make(
    model: str,
    *input_shape: int,
    likelihood: str = "bernoulli",
    seed: int = 0,
    layers: int = 1,
    activation: str = "relu",
    variance: float = 0.1,
    learn_variance: bool = False,
) -> Vae:
    config = VaeConfig(
        model=model,
        input_shape=input_shape,
        latent_dim=4,
        hidden=16,
        likelihood=likelihood,
        gaussian_variance=variance,
        layers=layers,
        activation=activation,
        learn_variance=learn_variance,
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
        ("ae", (3, 5, 7)),
        ("conv-ae", (1, 8, 8)),
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
    with pytest.raises(TrainError, match=r"conv-ae needs pictures .* use model ae"):
        make("conv-ae", *shape)
    with pytest.raises(TrainError, match="model conv needs pictures of 1 or 3 channels"):
        make("conv", *shape)


@pytest.mark.parametrize("model", ["mlp", "conv"])
@pytest.mark.parametrize("activation", ["tanh", "silu", "gated"])
@torch.no_grad()
def test_activations(model: str, activation: str) -> None:
    plain = make(model, 1, 8, 8)
    vae = make(model, 1, 8, 8, activation=activation)
    x = torch.rand(3, 1, 8, 8)
    assert vae.decoder(vae.encoder(x)[0]).shape == x.shape
    maps = [len([p for p in net.encoder.parameters() if p.ndim > 1]) for net in (vae, plain)]
    assert (maps[0] > maps[1]) == (activation == "gated")


@torch.no_grad()
def test_a_gate_is_a_sigmoid_that_multiplies() -> None:
    gated = activated(lambda: torch.nn.Linear(6, 3), "gated")
    assert isinstance(gated, Gated)
    x = torch.randn(2, 6)
    expected = gated.value(x) / (1 + (-gated.gate(x)).exp())
    torch.testing.assert_close(gated(x), expected)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_hidden_layers(layers: int) -> None:
    """Sizes as published: 784-200-200-50 has two hidden layers in either direction."""
    vae = make("mlp", 6, layers=layers)
    shapes = [tuple(p.shape) for p in vae.encoder.parameters() if p.ndim == 2]
    assert shapes == [(16, 6), *[(16, 16)] * (layers - 1), (8, 16)]
    shapes = [tuple(p.shape) for p in vae.decoder.parameters() if p.ndim == 2]
    assert shapes == [(16, 4), *[(16, 16)] * (layers - 1), (6, 16)]


@torch.no_grad()
def test_an_autoencoders_codes_are_points() -> None:
    mu, log_var = make("ae", 6).encoder(torch.rand(3, 6))
    assert mu.shape == (3, 4)
    assert (log_var == LOG_VAR_MIN).all()


def test_a_learned_variance_is_the_likelihoods() -> None:
    vae = make("mlp", 6, likelihood="gaussian", learn_variance=True)
    assert vae.likelihood.variance == pytest.approx(0.1)
    assert vae.decoder.log_variance is not None
    with torch.no_grad():
        vae.decoder.log_variance.fill_(-1.5)
    assert vae.likelihood.variance == pytest.approx(math.exp(-1.5))
    x, raw = torch.rand(2, 3, 6)
    torch.testing.assert_close(vae.decoder.nats(raw, x), vae.likelihood.nats(raw, x))
    vae.decoder.nats(raw, x).sum().backward()  # type: ignore[no-untyped-call]
    assert vae.decoder.log_variance.grad is not None


@pytest.mark.parametrize(("start", "scale"), [(1e-9, 0.01), (1e6, 0.01), (1e7, 1000.0)])
def test_a_variance_is_learned_from_wherever_it_starts(start: float, scale: float) -> None:
    vae = make("mlp", 6, likelihood="gaussian", variance=start, learn_variance=True)
    parameter = vae.decoder.log_variance
    assert parameter is not None
    x = scale * torch.randn(500, 6, generator=torch.Generator().manual_seed(0))
    raw = torch.zeros_like(x)
    optimiser = torch.optim.Adam([parameter], lr=0.3)
    for _ in range(200):
        optimiser.zero_grad()
        vae.decoder.nats(raw, x).mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert vae.likelihood.variance == pytest.approx(x.square().mean().item(), rel=0.01)


def test_a_learned_variance_that_is_held_at_its_least_can_rise_again() -> None:
    vae = make("mlp", 6, likelihood="gaussian", learn_variance=True)
    parameter = vae.decoder.log_variance
    assert parameter is not None
    with torch.no_grad():
        parameter.fill_(LOG_VAR_MIN - 1)
    assert vae.likelihood.variance == pytest.approx(math.exp(LOG_VAR_MIN))
    vae.decoder.nats(torch.zeros(2, 6), torch.ones(2, 6)).sum().backward()  # type: ignore[no-untyped-call]
    assert parameter.grad is not None
    assert parameter.grad < 0


@pytest.mark.parametrize("learn_variance", [False, True])
@pytest.mark.parametrize("likelihood", ["bernoulli", "continuous-bernoulli", "gaussian"])
def test_no_rows_have_no_nats(likelihood: str, learn_variance: bool) -> None:
    """A process's share of a last batch may be empty."""
    learned = learn_variance and likelihood == "gaussian"
    vae = make("mlp", 6, likelihood=likelihood, learn_variance=learned)
    none = torch.zeros(0, 6)
    assert vae.decoder.nats(none, none).shape == (0,)
