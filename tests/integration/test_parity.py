"""What comes over the wire is what the trained model computes: every RPC against PyTorch."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from support.repositories import ROW_SHAPES
from vaeserve import AsyncClient, Client, FailedPrecondition, Latents, NotFound
from vaeserve.v1.noise import Stream, standard_normal
from vaeserve_export.training.run import load_model
from vaeserve_export.vae.model import Vae, reparameterise
from vaeserve_server.app import App

TOLERANCE = 1e-5
ROWS = 5

Floats = npt.NDArray[np.float32]
Call = Callable[..., Awaitable[Any]]


@pytest.fixture(params=["app", "bound_app"])
def address(request: pytest.FixtureRequest) -> str:
    """Of a server that runs graphs as CPUs do, and of one that does as GPUs do."""
    app: App = request.getfixturevalue(request.param)
    return f"127.0.0.1:{app.port}"


@pytest.fixture(params=sorted(ROW_SHAPES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def vae(repository: Path, name: str) -> Vae:
    return load_model(repository.parent / "runs" / name)


@pytest.fixture
def x(name: str) -> Floats:
    return np.random.default_rng(1).random((ROWS, *ROW_SHAPES[name]), np.float32)


@pytest.fixture(params=["sync", "async"])
async def call(request: pytest.FixtureRequest, address: str, name: str) -> AsyncIterator[Call]:
    """Call a method of the model's handle by name, through either client."""
    if request.param == "sync":
        with Client(address) as client:
            model = client.model(name)

            async def sync_call(method: str, *args: Any, **options: Any) -> Any:
                return getattr(model, method)(*args, **options)

            yield sync_call
    else:
        async with AsyncClient(address) as async_client:
            async_model = async_client.model(name)

            async def async_call(method: str, *args: Any, **options: Any) -> Any:
                return await getattr(async_model, method)(*args, **options)

            yield async_call


def encode(vae: Vae, x: Floats) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        mu, log_var = vae.encoder(torch.from_numpy(x))
    return mu, log_var


def decode(vae: Vae, z: torch.Tensor | npt.NDArray[np.floating[Any]]) -> Floats:
    if not isinstance(z, torch.Tensor):
        z = torch.from_numpy(z.astype(np.float32))
    with torch.no_grad():
        x_hat: Floats = vae.decoder(z).numpy()
    return x_hat


def noise(stream: Stream, seed: int, size: int, *, rows: int = ROWS, draw: int = 0) -> Floats:
    draws = standard_normal(seed, stream, first_row=0, rows=rows, size=size, draws=draw + 1)
    return draws[:, draw]


def close(got: npt.ArrayLike, expected: npt.ArrayLike) -> None:
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=0, atol=TOLERANCE)


async def test_encode(call: Call, vae: Vae, x: Floats) -> None:
    posterior = await call("encode", x)
    mu, log_var = encode(vae, x)
    close(posterior.mu, mu)
    close(posterior.log_var, log_var)
    close(posterior.std, torch.exp(log_var / 2))


async def test_encode_draws(call: Call, vae: Vae, x: Floats) -> None:
    posterior = await call("encode", x, draws=3, seed=11)
    mu, log_var = encode(vae, x)
    for draw in range(3):
        eps = noise(Stream.POSTERIOR, 11, mu.shape[1], draw=draw)
        close(posterior.draws[:, draw], reparameterise(mu, log_var, torch.from_numpy(eps)))


@pytest.mark.parametrize("temperature", [1.0, 0.5])
async def test_sample(call: Call, vae: Vae, temperature: float) -> None:
    samples = await call("sample", 7, seed=3, temperature=temperature, latents=True)
    z = temperature * noise(Stream.PRIOR, 3, vae.config.latent_dim, rows=7)
    close(samples.latents, z)
    close(samples, decode(vae, z))


async def test_decode(call: Call, vae: Vae) -> None:
    z = np.random.default_rng(2).normal(size=(ROWS, vae.config.latent_dim)).astype(np.float32)
    close(await call("decode", z), decode(vae, z))


async def test_reconstruct_from_the_mean(call: Call, vae: Vae, x: Floats) -> None:
    close(await call("reconstruct", x), decode(vae, encode(vae, x)[0]))


async def test_reconstruct_from_a_draw(call: Call, vae: Vae, x: Floats) -> None:
    mu, log_var = encode(vae, x)
    eps = torch.from_numpy(noise(Stream.POSTERIOR, 5, mu.shape[1]))
    expected = decode(vae, reparameterise(mu, log_var, eps))
    close(await call("reconstruct", x, draw=True, seed=5), expected)


async def test_interpolate_straight(call: Call, vae: Vae, x: Floats) -> None:
    path = await call("interpolate", x[:2], x[2:4], steps=6, path="lerp", latents=True)
    a, b = (encode(vae, ends)[0].numpy()[:, None] for ends in (x[:2], x[2:4]))
    t = np.linspace(0, 1, 6)[None, :, None]
    close(path.latents, (1 - t) * a + t * b)
    for pair in range(2):
        close(path[pair], decode(vae, path.latents[pair]))


async def test_interpolate_round(call: Call, vae: Vae) -> None:
    size = vae.config.latent_dim
    a, b = np.random.default_rng(4).normal(size=(2, size)).astype(np.float32)
    path = await call("interpolate", Latents(a), Latents(b), steps=5, path="slerp", latents=True)
    latents = np.asarray(path.latents, np.float64).reshape(5, size)
    norms = np.linalg.norm(latents, axis=1)
    close(norms, np.linspace(np.linalg.norm(a), np.linalg.norm(b), 5))
    close(np.asarray(path).reshape(5, *vae.config.input_shape), decode(vae, latents))


async def test_score(call: Call, vae: Vae, x: Floats) -> None:
    """The importance-weighted bound of one draw is its log ratio; elsewhere against densities."""
    scored = await call("score", x, draws=1, seed=8)
    mu, log_var = encode(vae, x)
    eps = torch.from_numpy(noise(Stream.POSTERIOR, 8, mu.shape[1]))
    z = reparameterise(mu, log_var, eps)
    ratio = 0.5 * (eps.square() + log_var - z.square()).sum(1).numpy()
    np.testing.assert_allclose(
        scored.importance_weighted, scored.reconstruction - ratio, rtol=1e-5, atol=1e-4
    )
    assert ((scored.typicality >= 0) & (scored.typicality <= 1)).all()


async def test_edit(call: Call, name: str, x: Floats) -> None:
    if name != "digits":
        with pytest.raises(FailedPrecondition, match="has no attributes"):
            await call("edit", x, {"smile": 1.0})
        return
    edited = await call("edit", x, {"smile": 1.5}, preserve=["hat"], latents=True)
    back = await call("edit", edited.latents, {"smile": -1.5}, preserve=["hat"])
    close(back, await call("reconstruct", x))
    with pytest.raises(NotFound, match="no attribute 'smlie'; there is: glasses, hat, smile"):
        await call("edit", x, {"smlie": 1.0})


async def test_sample_of_the_fitted_prior(call: Call, vae: Vae, name: str) -> None:
    if name != "digits":
        with pytest.raises(FailedPrecondition, match="has no fitted prior"):
            await call("sample", 3, prior="fitted")
        return
    drawn = await call("sample", 7, seed=3, prior="fitted", latents=True)
    close(drawn, decode(vae, np.asarray(drawn.latents)))


async def test_uint8_pictures_there_and_back(call: Call, vae: Vae, name: str) -> None:
    if name == "vectors":
        pytest.skip("vectors have no levels")
    levels = np.random.default_rng(6).integers(0, 256, (ROWS, *ROW_SHAPES[name]), np.uint8)
    mu, _ = encode(vae, levels.astype(np.float32) / np.float32(255))
    close((await call("encode", levels)).mu, mu)
    as_floats = await call("encode", levels.astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal((await call("encode", levels)).mu, as_floats.mu)
    back = await call("reconstruct", levels, dtype=np.uint8)
    assert back.dtype == np.uint8
    assert np.abs(back - 255 * decode(vae, mu)).max() <= 0.5 + 255 * TOLERANCE
