"""What a decoder that ignores its latents had best say, and the likelihood's own variance there."""

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from vaeserve_export.vae.likelihood import Likelihood

LIKELIHOODS = [
    Likelihood("bernoulli"),
    Likelihood("continuous-bernoulli"),
    Likelihood("gaussian", 0.3),
]
MEANS = st.floats(0.07, 0.93)  # where no logit ends


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=lambda likelihood: likelihood.name)
@settings(max_examples=25)
@given(mean=MEANS, off=st.sampled_from([-0.1, -0.001, 0.001, 0.1]))
def test_no_other_constant_is_better(likelihood: Likelihood, mean: float, off: float) -> None:
    rows = torch.tensor([0.0, 1.0, mean], dtype=torch.float64)
    weights = torch.tensor([(1 - mean) / 2, mean / 2, 0.5], dtype=torch.float64)  # of that mean
    best = likelihood.constant(torch.tensor(mean, dtype=torch.float64))

    def nats(raw: Tensor) -> float:
        return float(weights @ likelihood.nats(raw.expand(3, 1), rows[:, None]))

    assert nats(best) <= nats(best + off)


def test_a_continuous_bernoullis_lambda_is_not_its_mean() -> None:
    likelihood = Likelihood("continuous-bernoulli")
    x = torch.full((1, 784), 0.9)
    as_bernoulli, best = (
        likelihood.nats(raw[None], x).item()
        for raw in (likelihood.raw(x[0]), likelihood.constant(x[0]))
    )
    assert as_bernoulli == pytest.approx(-537.2, abs=0.1)
    assert best == pytest.approx(-1021.3, abs=0.1)


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=lambda likelihood: likelihood.name)
@settings(max_examples=25)
@given(mean=MEANS | st.floats(0.499, 0.501))
def test_the_variance_is_that_of_the_density(likelihood: Likelihood, mean: float) -> None:
    means = torch.tensor([mean], dtype=torch.float64)
    raw, variance = likelihood.constant(means), likelihood.element_variance(means).item()
    if likelihood.name == "bernoulli":
        x = torch.tensor([0.0, 1.0], dtype=torch.float64)
    else:
        span = 1 if likelihood.name == "continuous-bernoulli" else 12
        x = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000 * span - (span - 1) / 2
    density = torch.softmax(-likelihood.nats(raw.expand(len(x), 1), x[:, None]), 0)
    found = float(density @ x)
    assert found == pytest.approx(mean, abs=1e-4)
    assert float(density @ (x - found).square()) == pytest.approx(variance, rel=1e-3)


@pytest.mark.parametrize("likelihood", LIKELIHOODS[:2], ids=lambda likelihood: likelihood.name)
def test_black_and_white_have_finite_nats(likelihood: Likelihood) -> None:
    x = torch.tensor([[0.0], [1.0]])
    nats = likelihood.nats(likelihood.constant(x), x)
    assert torch.isfinite(nats).all()
    assert (nats < likelihood.nats(torch.zeros(2, 1), x) - 0.5).all()


def test_a_uniform_elements_variance() -> None:
    found = Likelihood("continuous-bernoulli").element_variance(torch.tensor(0.5))
    assert found.item() == pytest.approx(1 / 12, rel=1e-6)
