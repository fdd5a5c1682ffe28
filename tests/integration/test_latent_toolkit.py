"""What a bundle knows of its latent space is served as it was measured, and drawn from."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest
import torch

from support.repositories import ATTRIBUTES
from vaeserve.v1 import bundle, model_service_pb2, vae_service_pb2 as pb
from vaeserve.v1.arrays import from_tensor
from vaeserve.v1.model_service_pb2_grpc import ModelServiceStub
from vaeserve.v1.noise import Stream, standard_normal, uniform
from vaeserve.v1.vae_service_pb2_grpc import VaeServiceStub
from vaeserve_export.data import dataset
from vaeserve_export.training.run import load_model

Floats = npt.NDArray[np.float32]
BOTH = (pb.GENERATE_OUTPUT_X_HAT, pb.GENERATE_OUTPUT_LATENTS)


@pytest.fixture
def channel(address: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(address) as opened:
        yield opened


def sampled(channel: grpc.Channel, n: int, **options: Any) -> tuple[Floats, Floats]:
    """x_hat and latents."""
    fields: dict[str, Any] = {"seed": 7, "prior": pb.PRIOR_FITTED, "outputs": BOTH} | options
    reply = VaeServiceStub(channel).Sample(pb.SampleRequest(model="digits", n=n, **fields))
    return tuple(  # type: ignore[return-value]  # of two
        np.array(from_tensor(part), np.float32) for part in (reply.x_hat, reply.latents)
    )


def test_statistics_are_those_of_the_validation_rows(
    channel: grpc.Channel, repository: Path
) -> None:
    """Bar L6: at most 1e-6 from what is computed anew."""
    info = ModelServiceStub(channel).GetModel(model_service_pb2.GetModelRequest(name="digits"))
    served = info.model.latent_statistics
    digits = dataset.load("digits")
    _, validation = dataset.split(len(digits.x), 0)
    vae = load_model(repository.parent / "runs" / "digits").double()
    with torch.no_grad():
        mu, log_var = (
            part.numpy() for part in vae.encoder(torch.from_numpy(digits.x[validation]).double())
        )
    for values, expected in (
        (served.mu_mean, mu.mean(0)),
        (served.mu_variance, mu.var(0)),
        (served.sigma2_mean, np.exp(log_var).mean(0)),
    ):
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-6)


def test_the_catalogue_tells_of_the_toolkit(channel: grpc.Channel) -> None:
    stub = ModelServiceStub(channel)
    digits, vectors = (
        stub.GetModel(model_service_pb2.GetModelRequest(name=name)).model
        for name in ("digits", "vectors")
    )
    assert tuple(attribute.name for attribute in digits.attributes) == ATTRIBUTES
    assert digits.prior.components == 3
    assert not vectors.attributes
    assert not vectors.HasField("prior")


def test_draws_are_those_of_the_mixture(channel: grpc.Channel, repository: Path) -> None:
    x_hat, z = sampled(channel, 40, temperature=0.5)
    with np.load(repository / "digits" / "1" / bundle.PRIOR) as mixture:
        weights, means, cholesky = (mixture[name] for name in ("weights", "means", "cholesky"))
    chosen = uniform(7, Stream.COMPONENT, first_row=0, rows=40)
    component = (chosen[:, None] >= np.cumsum(weights)[:-1]).sum(1)
    eps = standard_normal(7, Stream.PRIOR, first_row=0, rows=40, size=20)[:, 0]
    expected = means[component] + 0.5 * np.einsum("nij,nj->ni", cholesky[component], eps)
    np.testing.assert_allclose(z, expected, atol=1e-5)
    assert set(component) == {0, 1, 2}
    vae = load_model(repository.parent / "runs" / "digits")
    with torch.no_grad():
        np.testing.assert_allclose(x_hat, vae.decoder(torch.from_numpy(z)).numpy(), atol=1e-5)


def test_the_first_ten_of_a_hundred_are_the_ten_and_others_go_on(channel: grpc.Channel) -> None:
    hundred = sampled(channel, 100)
    for first, n in ((0, 10), (10, 1), (11, 89)):
        part = sampled(channel, n, first_row=first)
        for whole, own in zip(hundred, part, strict=True):
            np.testing.assert_array_equal(own, whole[first : first + n])


def test_a_stream_of_the_fitted_prior_is_one_sample(channel: grpc.Channel) -> None:
    request = pb.SampleRequest(model="digits", n=300, seed=7, prior=pb.PRIOR_FITTED, outputs=BOTH)
    request.n = 5000
    parts = list(VaeServiceStub(channel).SampleStream(request))
    assert len(parts) > 1
    latents = np.concatenate([from_tensor(part.latents) for part in parts])
    assert len(latents) == 5000
    for first in (0, 4800):
        _, z = sampled(channel, 200, first_row=first)
        np.testing.assert_array_equal(latents[first : first + 200], z)


def test_pictures_alone_are_the_same(channel: grpc.Channel) -> None:
    stub = VaeServiceStub(channel)
    x_hat, _ = sampled(channel, 5)
    reply = stub.Sample(pb.SampleRequest(model="digits", n=5, seed=7, prior=pb.PRIOR_FITTED))
    np.testing.assert_array_equal(from_tensor(reply.x_hat), x_hat)
    standard, unspecified = (
        stub.Sample(pb.SampleRequest(model="digits", n=5, seed=7, prior=prior))
        for prior in (pb.PRIOR_STANDARD, pb.PRIOR_UNSPECIFIED)
    )
    assert standard == unspecified
    assert standard.x_hat != reply.x_hat


def test_what_the_page_shows(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "latent-toolkit.md"
    (program,) = re.findall(r"## In the service.*?```python\n(.*?)```", page.read_text(), re.DOTALL)
    program = program.replace("localhost:50051", address).replace('"faces"', '"digits"')
    exec(program, {})  # noqa: S102
    attributes, shapes = capsys.readouterr().out.splitlines()
    assert attributes == "[('glasses', 0.9), ('hat', 0.9), ('smile', 0.9)]"
    assert shapes == "(16,) (16,)"
