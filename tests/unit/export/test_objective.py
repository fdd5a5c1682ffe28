"""The terms of the bound against torch.distributions, and against the usual mistakes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    ContinuousBernoulli,
    Distribution,
    Independent,
    Normal,
    kl_divergence,
)

from vaeserve_export.training.group import Group
from vaeserve_export.training.loss import Loss
from vaeserve_export.vae import objective
from vaeserve_export.vae.likelihood import (
    L2_VARIANCE,
    Likelihood,
    gaussian_nats,
    log_normaliser,
)
from vaeserve_export.vae.model import LOG_VAR_MAX, LOG_VAR_MIN, Vae, VaeConfig, build
from vaeserve_export.vae.objective import Terms, evaluate, kl_by_dimension, kl_nats, row_terms


def log_prob(elements: Distribution, x: Tensor) -> Tensor:
    """Of whole rows [2, 3, 4]."""
    nats: Tensor = Independent(elements, 3).log_prob(x)  # type: ignore[no-untyped-call]
    return nats


SEEDS = st.integers(0, 2**32 - 1)


def config(likelihood: str = "bernoulli", variance: float = 0.1) -> VaeConfig:
    return VaeConfig(
        model="mlp",
        input_shape=(2, 3, 4),
        latent_dim=7,
        hidden=11,
        likelihood=likelihood,
        gaussian_variance=variance,
    )


def rows(count: int, seed: int = 0) -> tuple[Vae, Tensor, Tensor]:
    """A model, rows for it, and their noise."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 2, 3, 4, generator=generator)
    return build(config(), seed), x, torch.randn(count, 7, generator=generator)


@settings(deadline=None)  # the first call of a PyTorch function is slow
@given(seed=SEEDS, scale=st.floats(0.01, 30.0))
def test_bernoulli_is_that_of_torch(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(5, 2, 3, 4, generator=generator)
    x = torch.rand(5, 2, 3, 4, generator=generator)

    nats = Likelihood("bernoulli").nats(logits, x)

    expected = -log_prob(Bernoulli(logits=logits, validate_args=False), x)
    torch.testing.assert_close(nats, expected, rtol=1e-5, atol=0)


@settings(deadline=None)
@given(seed=SEEDS, variance=st.floats(1e-3, 1e3))
def test_gaussian_is_that_of_torch_with_its_constant(seed: int, variance: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    mean, x = torch.randn(2, 5, 2, 3, 4, generator=generator).double()

    nats = Likelihood("gaussian", variance).nats(mean, x)

    expected = -log_prob(Normal(mean, variance**0.5), x)
    torch.testing.assert_close(nats, expected, rtol=1e-5, atol=1e-9)


@settings(deadline=None)
@given(seed=SEEDS, scale=st.floats(1e-4, 5.0))
def test_continuous_bernoulli_is_that_of_torch(seed: int, scale: float) -> None:
    """In float64, and up to logits where PyTorch begins to clamp lambda."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(5, 2, 3, 4, generator=generator).double()
    x = torch.rand(5, 2, 3, 4, generator=generator).double()

    nats = Likelihood("continuous-bernoulli").nats(logits, x)

    expected = -log_prob(ContinuousBernoulli(logits=logits, validate_args=False), x)
    torch.testing.assert_close(nats, expected, rtol=1e-5, atol=1e-5)
    rounded = Likelihood("continuous-bernoulli").nats(logits.float(), x.float())
    torch.testing.assert_close(rounded.double(), nats, rtol=1e-5, atol=1e-5)


def test_continuous_bernoulli_is_a_density() -> None:
    """Its integral over [0, 1] is 1, by Simpson's rule, whatever lambda."""
    x = torch.linspace(0, 1, 1001, dtype=torch.float64)[:, None]
    weights = torch.full((1001,), 2 / 3000, dtype=torch.float64)
    weights[1::2] *= 2
    weights[[0, -1]] /= 2
    for logit in (-9.0, -0.6, -0.5, -0.4, -1e-3, 0.0, 1e-8, 0.3, 0.5, 2.0, 12.0):
        nats = Likelihood("continuous-bernoulli").nats(torch.full_like(x, logit), x)
        assert float((weights * (-nats).exp()).sum()) == pytest.approx(1, rel=1e-6), logit


def test_continuous_bernoulli_has_a_gradient_everywhere() -> None:
    """The derivative of log C is odd in the logit, l / 6 near 0, and 1 / l - 1 / sinh l."""
    values = [0.0, 1e-30, 1e-6, -1e-3, 0.49, 0.51, -0.51, 3.0, -80.0, 200.0]
    logits = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    log_normaliser(logits).sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    expected = [v / 6 if abs(v) < 1e-2 else 1 / v - 1 / math.sinh(v) for v in values]
    torch.testing.assert_close(logits.grad, torch.tensor(expected).double(), rtol=1e-5, atol=1e-12)


def test_l2_is_the_squared_error_and_a_constant() -> None:
    mean, x = torch.randn(2, 5, 2, 3, 4, generator=torch.Generator().manual_seed(0)).double()
    nats = Likelihood("gaussian", L2_VARIANCE).nats(mean, x)
    squares = (x - mean).square().flatten(1).sum(1)
    torch.testing.assert_close(nats, squares + 12 * math.log(math.pi), rtol=1e-12, atol=0)


def test_the_best_learned_variance_is_the_mean_squared_error() -> None:
    """There the gradient vanishes (Rybkin et al. 2021, equation 5)."""
    mean, x = torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(0)).double()
    log_variance = (x - mean).square().mean().log().requires_grad_()
    gaussian_nats(mean, x, log_variance).sum().backward()  # type: ignore[no-untyped-call]
    assert log_variance.grad is not None
    assert float(log_variance.grad) == pytest.approx(0, abs=1e-9)


@settings(deadline=None)
@given(seed=SEEDS, spread=st.floats(0.1, 3.0))
def test_kl_is_that_of_torch(seed: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    mu, log_var = spread * torch.randn(2, 5, 7, generator=generator)

    nats = kl_nats(mu, log_var)

    posterior = Normal(mu, (0.5 * log_var).exp())
    expected = kl_divergence(posterior, Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(nats, expected, rtol=1e-5, atol=1e-5)


def test_bernoulli_takes_saturated_logits() -> None:
    logits = torch.tensor([[200.0, -200.0]])
    nats = Likelihood("bernoulli").nats(logits, torch.tensor([[0.0, 0.0]]))
    assert nats.tolist() == [200.0]


def test_kl_of_the_prior_is_nothing() -> None:
    assert kl_nats(torch.zeros(3, 7), torch.zeros(3, 7)).tolist() == [0.0] * 3


def test_terms_are_sums_over_elements_and_dimensions() -> None:
    """Doubling a row or its latents doubles the term; a mean would leave it as it was."""
    logits, x = torch.full((1, 8), 0.3), torch.full((1, 8), 0.5)
    mu, log_var = torch.full((1, 4), 0.7), torch.full((1, 4), -1.0)

    def doubled(value: Tensor) -> Tensor:
        return torch.cat([value, value], dim=1)

    once = Likelihood("bernoulli").nats(logits, x)
    twice = Likelihood("bernoulli").nats(doubled(logits), doubled(x))
    torch.testing.assert_close(twice, 2 * once)
    torch.testing.assert_close(kl_nats(doubled(mu), doubled(log_var)), 2 * kl_nats(mu, log_var))


def test_kl_gradient_pulls_towards_the_prior() -> None:
    """d KL / d mu = mu; d KL / d log_var = (sigma^2 - 1) / 2."""
    mu = torch.tensor([[-2.0, 0.0, 3.0]], requires_grad=True)
    log_var = torch.tensor([[-1.0, 0.0, 1.0]], requires_grad=True)

    kl_nats(mu, log_var).sum().backward()  # type: ignore[no-untyped-call]

    assert mu.grad is not None
    assert log_var.grad is not None
    torch.testing.assert_close(mu.grad, mu.detach())
    torch.testing.assert_close(log_var.grad, (log_var.detach().exp() - 1) / 2)


@pytest.mark.parametrize("log_var", [LOG_VAR_MIN, LOG_VAR_MAX])
def test_gradients_are_finite_at_the_ends_of_log_var(log_var: float) -> None:
    value = torch.full((1, 3), log_var, requires_grad=True)
    kl_nats(torch.zeros(1, 3), value).sum().backward()  # type: ignore[no-untyped-call]
    assert value.grad is not None
    assert torch.isfinite(value.grad).all()


def test_a_rows_nats_do_not_depend_on_the_batch() -> None:
    vae, x, eps = rows(9)
    together = row_terms(vae, x, eps)
    for row in range(9):
        alone = row_terms(vae, x[row : row + 1], eps[row : row + 1])
        torch.testing.assert_close(alone.kl[0], together.kl[row], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(
            alone.reconstruction[0], together.reconstruction[row], rtol=1e-5, atol=1e-6
        )


def test_evaluate_covers_every_row_once() -> None:
    vae, x, eps = rows(1100)
    terms = evaluate(vae, x, eps)
    assert [len(column) for column in terms] == [1100] * 4
    whole = row_terms(vae, x, eps)
    torch.testing.assert_close(terms.kl, whole.kl, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(terms.mu, whole.mu, rtol=1e-5, atol=1e-6)
    assert not terms.mu.requires_grad


def test_zero_noise_decodes_the_mean() -> None:
    vae, x, _ = rows(4)
    terms = row_terms(vae, x, torch.zeros(4, 7))
    expected = vae.likelihood.nats(vae.decoder.raw(terms.mu), x)
    np.testing.assert_array_equal(terms.reconstruction.detach(), expected.detach())


def test_large_rows_are_evaluated_in_smaller_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def recorded(vae: Vae, x: Tensor, eps: Tensor, *, as_served: bool) -> Terms:
        sizes.append(len(x))
        return row_terms(vae, x, eps, as_served=as_served)

    monkeypatch.setattr(objective, "row_terms", recorded)
    monkeypatch.setattr(objective, "EVALUATION_ELEMENTS", 80)
    x, eps = torch.zeros(7, 2, 3, 4), torch.zeros(7, 7)
    terms = objective.evaluate(build(config(), 0), x, eps)
    assert sizes == [3, 3, 1]
    assert len(terms.kl) == 7


def loss_of(vae: Vae, x: Tensor, eps: Tensor, weight: float, free_bits: float) -> list[float]:
    """Per row: the loss, then reconstruction and KL as they are logged."""
    part, sums = Loss(vae, free_bits, Group())(x, eps, weight, len(x))
    assert float(sums[2]) == pytest.approx(len(x) * part.item(), rel=1e-6)
    return [part.item(), float(sums[0]) / len(x), float(sums[1]) / len(x)]


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_logged_terms_are_apart_from_the_weight(weight: float) -> None:
    vae, x, eps = rows(9)
    loss, reconstruction, kl = loss_of(vae, x, eps, weight, free_bits=0.0)
    terms = evaluate(vae, x, eps)
    assert reconstruction == pytest.approx(float(terms.reconstruction.mean()), rel=1e-5)
    assert kl == pytest.approx(float(terms.kl.mean()), rel=1e-5)
    assert loss == pytest.approx(reconstruction + weight * kl, rel=1e-5)


def test_free_bits_are_a_floor_of_each_dimension() -> None:
    vae, x, eps = rows(9)
    terms = evaluate(vae, x, eps)
    means = kl_by_dimension(terms.mu, terms.log_var).mean(0)
    floor = float(means.median())  # of seven: three are below it, three above

    loss, reconstruction, kl = loss_of(vae, x, eps, 0.5, floor)

    assert kl == pytest.approx(float(terms.kl.mean()), rel=1e-5)
    floored = float(means.clamp(min=floor).sum())
    assert floored > kl
    assert loss == pytest.approx(reconstruction + 0.5 * floored, rel=1e-5)


def test_free_bits_let_no_gradient_through() -> None:
    """With a floor above all there is, the KL's weight does not matter."""
    gradients = []
    for weight, floor in ((1.0, 100.0), (0.0, 0.0)):
        vae, x, eps = rows(9)
        part, _ = Loss(vae, floor, Group())(x, eps, weight, 9)
        part.backward()
        gradients.append(vae.encoder.head.weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("name", ["bernoulli", "continuous-bernoulli"])
def test_as_served_a_logit_ends_where_engines_part(name: str) -> None:
    likelihood = Likelihood(name)
    logits = torch.tensor([-90.0, -40.0, -18.0, -9.0, 0.25, 9.0, 40.0])
    served = likelihood.raw(likelihood.mean(logits))
    torch.testing.assert_close(served[:3], torch.full((3,), -math.log(2**23 - 1)))
    torch.testing.assert_close(served[3:6], logits[3:6], rtol=1e-3, atol=1e-5)
    assert served[6] == pytest.approx(math.log(2**23 - 1))


def test_terms_as_served_are_those_of_the_bounded_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    vae = build(config(likelihood="continuous-bernoulli"), 0)
    raw = vae.decoder.raw
    monkeypatch.setattr(vae.decoder, "raw", lambda z: raw(z) - 30)
    x, eps = torch.zeros(3, 2, 3, 4), torch.zeros(3, 7)
    free, served = (evaluate(vae, x, eps, as_served=way).reconstruction for way in (False, True))
    # All 24 pixels are at their end: each counts as a logit of -15.9 there.
    expected = -24 * math.log(math.log(2**23 - 1) / (1 - 2**-22))
    torch.testing.assert_close(served, torch.full((3,), expected), rtol=1e-5, atol=1e-4)
    assert (free < served - 1).all()
