"""A trained VAE as evaluation and the latent toolkit see it, wherever it is stored."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from vaeserve_export.data.rows import Column
from vaeserve_export.vae.likelihood import Likelihood


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a model comes from.

    Attributes:
        folder: run or bundle.
        name: what to call it: the run's folder, or the model and its version.
        data_sha256: digest of its training data, lower-case hex; empty if unknown.
        beta: weight of the KL in its training; None if unknown.
        columns: of the table it was trained on; empty unless rows come from a table.
        preprocessing: (scale, offset) by which a uint8 level becomes a model value, where that was
            somebody's own choice; None where the model takes rows as the sources of data give them.
        binarise: whether its training drew pixels with the grey levels as probabilities; None if
            unknown.
    """

    folder: Path
    name: str
    data_sha256: str
    beta: float | None
    columns: tuple[Column, ...]
    preprocessing: tuple[float, float] | None = None
    binarise: bool | None = None


class Subject(Protocol):
    """Encoder and decoder of one latent space, on rows of any number, without gradients.

    A latent row is flat here: latent_dim elements, whatever shape the decoder takes them in.
    """

    origin: Origin
    likelihood: Likelihood
    input_shape: tuple[int, ...]
    latent_dim: int

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map x [rows, *input_shape] to mu, log_var [rows, latent_dim]."""

    def decode(self, z: Tensor) -> Tensor:
        """Map z [rows, latent_dim] to x_hat [rows, *input_shape], the mean of p(x|z)."""

    def reconstruction_nats(self, x: Tensor, z: Tensor) -> Tensor:
        """-log p(x|z) of every row under each of its draws.

        Args:
            x: [rows, *input_shape].
            z: [rows, draws, latent_dim].

        Returns:
            Nats, [rows, draws].
        """
