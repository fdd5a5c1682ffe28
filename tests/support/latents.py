"""A model whose posteriors are known, because they are its input."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vaeserve_export.data.dataset import Dataset
from vaeserve_export.trained.subject import Origin
from vaeserve_export.vae.likelihood import Likelihood


class KnownPosteriors:
    """A Subject: the halves of a row are its mu and its log_var."""

    def __init__(self, latent_dim: int) -> None:
        self.origin = Origin(folder=Path(), name="known", data_sha256="", beta=1.0, columns=())
        self.likelihood = Likelihood("gaussian", 1.0)
        self.input_shape: tuple[int, ...] = (2 * latent_dim,)
        self.latent_dim = latent_dim

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu, log_var = x.chunk(2, dim=1)
        return mu, log_var

    def decode(self, z: Tensor) -> Tensor:
        raise NotImplementedError

    def reconstruction_nats(self, x: Tensor, z: Tensor) -> Tensor:
        raise NotImplementedError


def rows(mu: npt.NDArray[np.float64], variance: npt.NDArray[np.float64] | float) -> Dataset:
    """Rows that `KnownPosteriors` encodes to these."""
    log_var = np.broadcast_to(np.log(variance), mu.shape)
    x = np.concatenate([mu, log_var], axis=1).astype(np.float32)
    return Dataset(x, None, level=None, name="known posteriors")
