"""What a user may write; mypy --strict must pass on it, from outside. It is never run."""

from collections.abc import AsyncIterator, Iterator
from typing import assert_type

import numpy as np
import numpy.typing as npt
from PIL import Image

import vaeserve
from vaeserve import AsyncClient, Client, Generated, Latents, ModelInfo, Posterior, Tls

Pictures = npt.NDArray[np.float32]


def blocking(x: Pictures, picture: Image.Image) -> None:
    tls = Tls(ca="ca.pem", cert=b"...", key=b"...")
    with Client("vae.example:50051", tls=tls, token=lambda: "secret", timeout=2.0) as client:
        names: list[str] = [state.name for state in client.models() if state.ready]
        model = client.model(names[0], version=3)
        assert_type(model.info, ModelInfo)
        posterior = assert_type(model.encode(x, draws=2, seed=7), Posterior)
        draws: Latents | None = posterior.draws
        z = assert_type(posterior.sample(seed=1), Latents)
        model.encode([picture, picture])
        model.encode(picture)
        generated = assert_type(model.sample(4, temperature=0.7, latents=True), Generated)
        shape: tuple[int, ...] = generated.shape
        decoded = model.decode(z + np.float32(0.5), dtype=np.uint8)
        mean: float = float(decoded.mean())
        model.interpolate(x[:1], x[1:2], steps=5, path="slerp")
        walked: list[Posterior] = list(model.encode_stream([x, x]))
        chunks: Iterator[Generated] = model.sample_stream(10_000, seed=1)
        with vaeserve.timed() as calls:
            model.reconstruct(x)
        milliseconds = [call.queue * 1e3 for call in calls]
        print(draws, shape, mean, walked, next(chunks), milliseconds)


async def awaited(x: Pictures) -> None:
    async def batches() -> AsyncIterator[Pictures]:
        yield x

    async with AsyncClient("dns:///vae.example:50051", tls=True) as client:
        model = client.model("faces")
        assert_type(await model.info(), ModelInfo)
        assert_type(await model.encode(x), Posterior)
        async for posterior in model.encode_stream(batches()):
            print(posterior.mu.shape, posterior.latency)
        async for pictures in model.decode_stream([x]):
            print(pictures.dtype)


def errors(client: Client) -> float | None:
    try:
        client.model("faces").sample(1)
    except vaeserve.Overloaded as error:
        return error.retry_after
    except (vaeserve.DeadlineExceeded, vaeserve.Unavailable):
        return 1.0
    except vaeserve.InvalidInput as error:
        print([(violation.field, violation.description) for violation in error.field_violations])
    except vaeserve.VaeserveError as error:
        print(error.reason, error.code)
    return None
