"""The model of the scripted server: elementwise arithmetic, with the contract's noise.

A row's answer does not depend on its neighbours.
"""

import math

import numpy as np
import numpy.typing as npt

from vaeserve.v1 import arrays, noise, tensor_pb2

INPUT_SHAPE = (2, 3)
LATENT_SHAPE = (4,)
SPACE = "space-a"
PRIOR_MEAN = np.float32(2)

Floats = npt.NDArray[np.float32]
ATTRIBUTES: dict[str, Floats] = {
    "glasses": np.array([0, 0, 1, 0], np.float32),
    "smile": np.array([1, 0.5, 0, 0], np.float32),
}
"""Directions of Edit, by name."""


def pictures(rows: int, seed: int = 0) -> Floats:
    """Random input rows in [0, 1)."""
    return np.random.default_rng(seed).random((rows, *INPUT_SHAPE), np.float32)


def model_values(tensor: tensor_pb2.Tensor) -> Floats:
    """What the rows of a request mean: levels are 255ths."""
    array = arrays.from_tensor(tensor)
    scale = np.float32(1 / 255) if array.dtype == np.uint8 else np.float32(1)
    return array.astype(np.float32) * scale


def encode(x: Floats) -> tuple[Floats, Floats]:
    """Mu and log_var of pictures."""
    flat = x.reshape(len(x), -1)[:, : LATENT_SHAPE[0]]
    return flat * np.float32(2), flat - np.float32(1)


def draw(mu: Floats, log_var: Floats, seed: int, first_row: int, draws: int) -> Floats:
    """Draws of posteriors, [rows, draws, latent]."""
    eps = noise.standard_normal(
        seed,
        noise.Stream.POSTERIOR,
        first_row=first_row,
        rows=len(mu),
        size=LATENT_SHAPE[0],
        draws=draws,
    )
    return noise.reparameterise(mu[:, None], log_var[:, None], eps)


def pictures_of(z: Floats, dtype: int) -> tensor_pb2.Tensor:
    """Latents repeated over the picture, squashed into 0..1."""
    lead = z.shape[:-1]
    x_hat = np.resize(z.reshape(-1, z.shape[-1]).T, (math.prod(INPUT_SHAPE), math.prod(lead))).T
    x_hat = np.clip(x_hat * np.float32(0.25) + np.float32(0.5), 0, 1)
    x_hat = x_hat.reshape(*lead, *INPUT_SHAPE)
    if dtype == tensor_pb2.DATA_TYPE_UINT8:
        x_hat = np.rint(x_hat * 255).astype(np.uint8)
    return arrays.to_tensor(x_hat)
