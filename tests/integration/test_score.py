"""Score: the terms by PyTorch's own densities, placed among the validation rows."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest
import torch

from support.repositories import ROW_SHAPES
from support.servers import held_engines, running_app, series, wait_for
from vaeserve.v1 import arrays, bundle, vae_service_pb2 as pb
from vaeserve.v1.arrays import from_tensor, to_tensor
from vaeserve.v1.noise import Stream, standard_normal
from vaeserve.v1.vae_service_pb2_grpc import VaeServiceStub
from vaeserve_export.data import dataset
from vaeserve_export.training.run import load_model
from vaeserve_export.vae.model import Vae
from vaeserve_server.app import App
from vaeserve_server.config import ServerConfig

Floats = npt.NDArray[np.float32]
ROWS = 6
TERMS = ("reconstruction_nats", "kl_nats", "negative_elbo_nats", "percentile", "typicality")


@pytest.fixture
def stub(address: str) -> Iterator[VaeServiceStub]:
    with grpc.insecure_channel(address) as channel:
        yield VaeServiceStub(channel)


def rows_of(name: str, count: int = ROWS) -> Floats:
    return np.random.default_rng(1).random((count, *ROW_SHAPES[name]), np.float32)


def scored(stub: VaeServiceStub, name: str, x: arrays.Array, **options: Any) -> dict[str, Floats]:
    reply = stub.Score(pb.ScoreRequest(model=name, input=to_tensor(x), **options))
    names = (*TERMS, "importance_weighted_nats") if options.get("draws") else TERMS
    assert reply.version == 1
    assert (
        reply.HasField("importance_weighted_nats")
        == reply.HasField("seed")
        == ("importance_weighted_nats" in names)
    )
    return {term: np.asarray(from_tensor(getattr(reply, term)), np.float32) for term in names}


def density(name: str, decoded: torch.Tensor) -> torch.distributions.Distribution:
    make: Callable[..., Any] = torch.distributions.Bernoulli
    arguments: dict[str, Any] = {"probs": decoded, "validate_args": False}
    if name == "vectors":
        make, arguments = torch.distributions.Normal, {"loc": decoded, "scale": np.sqrt(0.1)}
    return torch.distributions.Independent(make(**arguments), decoded.dim() - 1)


def by_torch(vae: Vae, name: str, x: Floats, eps: Floats) -> tuple[npt.NDArray[np.float64], ...]:
    """-log p(x|z), the KL and log p(x|z) p(z) / q(z|x), in float64; eps is [rows, draws, d]."""
    vae = vae.double()
    with torch.no_grad():
        mu, log_var = vae.encoder(torch.from_numpy(x).double())
        q = torch.distributions.Normal(mu, torch.exp(log_var / 2))
        prior = torch.distributions.Normal(torch.zeros_like(mu), torch.ones_like(mu))
        kl = torch.distributions.kl_divergence(q, prior).sum(1)
        nats, ratios = [], []
        for draw in torch.from_numpy(eps).double().unbind(1):
            z = mu + q.scale * draw
            log_x: Any = density(name, vae.decoder(z))
            nats.append(-log_x.log_prob(torch.from_numpy(x).double()))
            ratios.append((prior.log_prob(z) - q.log_prob(z)).sum(1) - nats[-1])  # type: ignore[no-untyped-call]
    return torch.stack(nats, 1).numpy(), kl.numpy(), torch.stack(ratios, 1).numpy()


@pytest.fixture(params=sorted(ROW_SHAPES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def vae(repository: Path, name: str) -> Vae:
    return load_model(repository.parent / "runs" / name)


def close(got: Floats, expected: npt.NDArray[np.float64]) -> None:
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-4)


def test_at_the_mean(stub: VaeServiceStub, vae: Vae, name: str) -> None:
    x = rows_of(name)
    got = scored(stub, name, x)
    nats, kl, _ = by_torch(vae, name, x, np.zeros((ROWS, 1, vae.config.latent_dim), np.float32))
    close(got["reconstruction_nats"], nats[:, 0])
    close(got["kl_nats"], kl)
    close(got["negative_elbo_nats"], nats[:, 0] + kl)


def test_over_draws(stub: VaeServiceStub, vae: Vae, name: str) -> None:
    x = rows_of(name)
    got = scored(stub, name, x, draws=9, seed=4, first_row=30)
    size = vae.config.latent_dim
    eps = standard_normal(4, Stream.POSTERIOR, first_row=30, rows=ROWS, size=size, draws=9)
    nats, kl, ratios = by_torch(vae, name, x, eps)
    close(got["reconstruction_nats"], nats.mean(1))
    close(got["negative_elbo_nats"], nats.mean(1) + kl)
    bound = torch.logsumexp(torch.from_numpy(ratios), 1).numpy() - np.log(9)
    close(got["importance_weighted_nats"], -bound)
    at_mean = scored(stub, name, x)
    for place in ("percentile", "typicality"):
        np.testing.assert_array_equal(got[place], at_mean[place])


def test_the_weighted_bound_is_the_tighter_one(stub: VaeServiceStub) -> None:
    got = scored(stub, "digits", dataset.load("digits").x[:20], draws=1000, seed=2)
    gap = got["negative_elbo_nats"] - got["importance_weighted_nats"]
    assert gap.mean() > 0


def test_the_validation_rows_have_the_percentiles_that_they_made(
    stub: VaeServiceStub, repository: Path
) -> None:
    digits = dataset.load("digits")
    _, validation = dataset.split(len(digits.x), 0)
    whole = [
        scored(stub, "digits", part)
        for part in np.array_split(digits.x[validation], -(-len(validation) // 250))
    ]
    percentile = np.concatenate([part["percentile"] for part in whole])
    negative_elbo = np.concatenate([part["negative_elbo_nats"] for part in whole])
    below = (negative_elbo[:, None] > negative_elbo).mean(1) * 100
    assert np.abs(percentile - below).max() < 1.5
    sides = []
    for term in ("reconstruction_nats", "kl_nats"):
        nats = np.concatenate([part[term] for part in whole])
        share = (nats[:, None] > nats).mean(1)
        sides.append(2 * np.minimum(share, 1 - share))
    typicality = np.concatenate([part["typicality"] for part in whole])
    assert np.abs(typicality - np.minimum(*sides)).max() < 0.03
    info = bundle.read_manifest(repository / "digits" / "1")
    assert negative_elbo.min() < info.training.negative_elbo_nats < negative_elbo.max()


def test_what_is_unlike_the_data_is_on_the_edge(stub: VaeServiceStub) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 1, 8, 8), np.uint8)
    got = scored(stub, "digits", noise)
    assert (got["percentile"] == 100).all()
    assert (got["typicality"] == 0).all()


def test_the_same_bits_alone_in_company_and_in_parts(
    stub: VaeServiceStub, repository: Path, name: str
) -> None:
    x = rows_of(name, 11)
    whole = scored(stub, name, x, draws=70, seed=3)
    with (
        running_app(repository, max_rows=11) as small,
        grpc.insecure_channel(f"127.0.0.1:{small.port}") as channel,
    ):
        in_batches = scored(VaeServiceStub(channel), name, x, draws=70, seed=3)
    rows = [
        scored(stub, name, x[row : row + 1], draws=70, seed=3, first_row=row) for row in range(11)
    ]
    for term, values in whole.items():
        np.testing.assert_array_equal(in_batches[term], values)
        np.testing.assert_array_equal(np.concatenate([row[term] for row in rows]), values)


def test_a_seed_the_service_chose_comes_back(stub: VaeServiceStub) -> None:
    request = pb.ScoreRequest(model="digits", input=to_tensor(rows_of("digits")), draws=5)
    first = stub.Score(request)
    request.seed = first.seed
    assert stub.Score(request) == first


def test_values_on_which_the_model_overflows(stub: VaeServiceStub) -> None:
    x = np.full((1, *ROW_SHAPES["vectors"]), 3e38, np.float32)
    for draws in (0, 5):
        request = pb.ScoreRequest(model="vectors", input=to_tensor(x), draws=draws)
        with pytest.raises(grpc.RpcError) as raised:
            stub.Score(request)
        code: Any = raised.value
        assert code.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_it_counts_as_latent_health(repository: Path) -> None:
    with running_app(repository) as app:
        with grpc.insecure_channel(f"127.0.0.1:{app.port}") as channel:
            scored(VaeServiceStub(channel), "digits", rows_of("digits"), draws=3, seed=1)
        samples = series(app)
    assert samples['vaeserve_kl_nats_count{model="digits"}'] == ROWS
    assert samples['vaeserve_reconstruction_nats_count{model="digits"}'] == ROWS
    method = 'grpc_method="Score",grpc_service="vaeserve.v1.VaeService",grpc_type="unary"'
    assert samples[f'grpc_server_handled_total{{grpc_code="OK",{method}}}'] == 1


def test_others_have_their_turn_between_its_batches(patient: App) -> None:
    most = ServerConfig.max_rows
    score = pb.ScoreRequest(model="digits", input=to_tensor(rows_of("digits", 1)), draws=5 * most)
    decode = pb.DecodeRequest(model="digits", latents=to_tensor(np.zeros((1, 20), np.float32)))
    with grpc.insecure_channel(f"127.0.0.1:{patient.port}") as channel, held_engines() as engines:
        stub: Any = VaeServiceStub(channel)
        scoring = stub.Score.future(score)
        for _ in range(2):  # the encoder, and the decoder at the mean
            engines.wait_for_a_run()
            engines.let_one_pass()
        engines.wait_for_a_run()
        decoding = stub.Decode.future(decode)
        wait_for(patient, 'vaeserve_queue_rows{graph="decoder",model="digits"}', 1)
        for _ in range(2):  # the first batch of draws, and then the other caller's
            engines.let_one_pass()
            engines.wait_for_a_run()
        assert decoding.result(30).x_hat.shape[0] == 1
        assert not scoring.done()
        engines.release()
        assert scoring.result(30).HasField("importance_weighted_nats")
