"""The SDK against the real server: limits are split around, and both clients give the same bits."""

import numpy as np
import torch
from PIL import Image

from vaeserve import AsyncClient, Client


async def test_calls_beyond_the_limit_are_split_alike(client: Client, address: str) -> None:
    digits = client.model("digits")
    rows = 2 * digits.info.limits.max_rows + 3
    x = np.random.default_rng(0).random((rows, *digits.info.input_shape), np.float32)
    blocking = digits.encode(x, draws=2, seed=5)
    async with AsyncClient(address) as other:
        handle = other.model("digits")
        awaited = await handle.encode(x, draws=2, seed=5)
        drawn = await handle.sample(rows, seed=6)
    np.testing.assert_array_equal(awaited.mu, blocking.mu)
    np.testing.assert_array_equal(awaited.draws, blocking.draws)
    np.testing.assert_array_equal(drawn, digits.sample(rows, seed=6))
    np.testing.assert_array_equal(drawn[-3:], digits.sample(3, seed=6, first_row=rows - 3))


def test_draws_made_here_are_those_of_the_server(client: Client) -> None:
    digits = client.model("digits")
    x = np.random.default_rng(1).random((9, *digits.info.input_shape), np.float32)
    posterior = digits.encode(x, draws=3, seed=11, first_row=1000)
    np.testing.assert_array_equal(posterior.sample(3, seed=11), posterior.draws)
    drawn = digits.decode(posterior.sample(seed=11))
    again = digits.reconstruct(x, draw=True, seed=11, first_row=1000)
    np.testing.assert_array_equal(drawn, again)


def test_pictures_come_back_as_levels(client: Client) -> None:
    digits = client.model("digits")
    levels = digits.sample(5, seed=1, dtype=np.uint8)
    exact = np.asarray(digits.sample(5, seed=1)) * 255
    np.testing.assert_allclose(np.asarray(levels, np.float32), exact, atol=0.5001)


def test_tensors_and_pictures_are_what_their_arrays_are(client: Client) -> None:
    digits = client.model("digits")
    levels = digits.sample(3, seed=2, dtype=np.uint8).pictures
    expected = digits.encode(levels).mu
    pictures = [Image.fromarray(picture[0]) for picture in levels]
    np.testing.assert_array_equal(digits.encode(pictures).mu, expected)
    np.testing.assert_array_equal(digits.encode(torch.tensor(levels.copy())).mu, expected)
    z = torch.tensor(np.array(expected))
    np.testing.assert_array_equal(digits.decode(z), digits.decode(expected))
