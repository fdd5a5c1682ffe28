"""Where the rows of a data set lie in latent space."""

from typing import NamedTuple

import torch

from vaeserve.v1.noise import Floats, Stream, reparameterise, standard_normal
from vaeserve_export.errors import DataError
from vaeserve_export.trained.subject import Subject
from vaeserve_export.vae.objective import batches

CHOOSING_FRACTION = 0.2
"""Of the rows that a fit may see: they choose between fits, and are not fitted to meanwhile."""


class Posteriors(NamedTuple):
    """q(z|x) = N(mu, diag(exp(log_var))) of some rows, each [rows, latent_dim]."""

    mu: Floats
    log_var: Floats

    def draws(self, seed: int) -> Floats:
        """One draw a row; the same for the same seed, on every machine."""
        rows, size = self.mu.shape
        eps = standard_normal(seed, Stream.POSTERIOR, first_row=0, rows=rows, size=size)
        return reparameterise(self.mu, self.log_var, eps[:, 0])


def encode(subject: Subject, x: Floats) -> Posteriors:
    """The posteriors of rows x [rows, *input_shape], in batches that fit into memory.

    Raises:
        DataError: rows of another shape than the model's.
    """
    if x.shape[1:] != tuple(subject.input_shape):
        raise DataError(
            f"rows have shape {list(x.shape[1:])}, {subject.origin.name} takes "
            f"{list(subject.input_shape)}"
        )
    parts = [subject.encode(rows) for rows in batches(torch.from_numpy(x))]
    mu, log_var = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
    return Posteriors(mu, log_var)
