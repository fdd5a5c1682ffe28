"""What the exporter writes is what the server reads, and both mean the same by it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from support.repositories import ROW_SHAPES
from vaeserve.v1 import bundle, model_pb2
from vaeserve_export.bundling.contents import LIKELIHOODS
from vaeserve_export.vae import objective
from vaeserve_export.vae.likelihood import Likelihood
from vaeserve_server import nats

NAMES = {number: name for name, number in LIKELIHOODS.items() if name != "l2"}


@pytest.mark.parametrize("name", sorted(ROW_SHAPES))
def test_a_manifest_says_all_that_is_promised(repository: Path, name: str) -> None:
    folder = repository / name / "1"
    info = bundle.read_manifest(folder)
    assert (info.name, info.version) == (name, 1)
    assert tuple(info.input_shape) == ROW_SHAPES[name]
    assert len(info.latent_shape) == 1
    assert info.HasField("preprocessing") == (name != "vectors")
    assert (info.likelihood == model_pb2.LIKELIHOOD_GAUSSIAN) == (name == "vectors")
    assert info.training.validation_rows > 0
    assert info.training.negative_elbo_nats == pytest.approx(
        info.training.reconstruction_nats + info.training.kl_nats, rel=1e-6
    )
    numerics = info.numerics
    assert numerics.provider == "CPUExecutionProvider"
    assert max(numerics.parity_mu, numerics.parity_log_var, numerics.parity_x_hat) <= 1e-5
    assert numerics.batch_difference == 0
    assert not info.HasField("limits")
    assert {"vaeserve", "torch", "onnx"} <= set(info.tool_versions)
    listed = {entry.name for entry in info.files}
    assert listed | {bundle.MANIFEST} == {path.name for path in folder.iterdir()}
    assert set(bundle.read_files(folder, info)) == listed


def tensors(seed: int, rows: int, size: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, size, generator=generator) for _ in range(2)]


@settings(deadline=None)
@given(seed=st.integers(0, 1000), rows=st.integers(1, 5), size=st.integers(1, 30))
def test_live_kl_is_the_training_kl(seed: int, rows: int, size: int) -> None:
    mu, log_var = tensors(seed, rows, size)
    expected = objective.kl_nats(mu, log_var).numpy()
    np.testing.assert_allclose(
        nats.kl_nats(mu.numpy(), log_var.numpy()), expected, rtol=1e-5, atol=1e-6
    )


@settings(deadline=None)
@given(
    seed=st.integers(0, 1000),
    rows=st.integers(1, 5),
    size=st.integers(1, 30),
    likelihood=st.sampled_from(["bernoulli", "continuous-bernoulli", "gaussian"]),
)
def test_live_reconstruction_is_the_training_reconstruction(
    seed: int, rows: int, size: int, likelihood: str
) -> None:
    raw, x = tensors(seed, rows, size)
    variance = 0.3
    info = model_pb2.ModelInfo(likelihood=model_pb2.LIKELIHOOD_GAUSSIAN, gaussian_variance=variance)
    x_hat = raw
    if likelihood != "gaussian":
        info.likelihood = LIKELIHOODS[likelihood]
        x, x_hat = x.sigmoid(), raw.sigmoid()
    expected = Likelihood(likelihood, variance).nats(raw, x).numpy()
    live = nats.reconstruction_nats(x.numpy(), x_hat.numpy(), info)
    np.testing.assert_allclose(live, expected, rtol=1e-4, atol=1e-5)


def test_the_continuous_bernoulli_is_that_of_torch() -> None:
    """Across the whole interval, near 1/2 too, where its constant is 0 / 0."""
    near_half = 0.5 + np.array([0.0, 1e-9, -1e-7, 1e-4, -0.01, 0.049, -0.051, 0.06])
    parameter = np.concatenate([near_half, [1e-6, 0.01, 0.99, 1 - 1e-6]]).astype(np.float32)
    distribution: Any = torch.distributions.ContinuousBernoulli(
        torch.from_numpy(parameter).double()
    )
    x = np.linspace(0, 1, len(parameter), dtype=np.float32)
    info = model_pb2.ModelInfo(likelihood=model_pb2.LIKELIHOOD_CONTINUOUS_BERNOULLI)
    live = nats.reconstruction_nats(x[:, None], parameter[:, None], info)
    torch_nats = -distribution.log_prob(torch.from_numpy(x).double()).numpy()
    np.testing.assert_allclose(live, torch_nats, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(
    "likelihood",
    [model_pb2.LIKELIHOOD_BERNOULLI, model_pb2.LIKELIHOOD_CONTINUOUS_BERNOULLI],
)
def test_saturated_pixels_count_as_in_evaluation(
    likelihood: model_pb2.Likelihood.ValueType,
) -> None:
    info = model_pb2.ModelInfo(likelihood=likelihood)
    x = np.array([[0.0, 1.0, 1.0, 0.25]], np.float32)
    x_hat = np.array([[0.0, 1.0, 0.0, 1.0]], np.float32)
    density = Likelihood(NAMES[likelihood])
    raw = density.raw(torch.from_numpy(x_hat))
    expected = density.nats(raw, torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(nats.reconstruction_nats(x, x_hat, info), expected, rtol=1e-5)
