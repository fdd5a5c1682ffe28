"""An encoder and a decoder of one latent space, as export sees them: two modules, two shapes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_BATCH = 64  # rows of one run: a net of somebody's own may need much memory for one


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Modules in eval mode on the CPU.

    Attributes:
        encoder: x [rows, *input_shape] -> mu, log_var [rows, *latent_shape].
        decoder: z [rows, *latent_shape] -> x_hat [rows, *input_shape].
        input_shape: shape of one row.
        latent_shape: shape of one latent row.
    """

    encoder: nn.Module
    decoder: nn.Module
    input_shape: tuple[int, ...]
    latent_shape: tuple[int, ...]

    @torch.no_grad()
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run the encoder on any number of rows."""
        parts = [self.encoder(rows) for rows in torch.split(x, _BATCH)]
        return torch.cat([mu for mu, _ in parts]), torch.cat([log_var for _, log_var in parts])

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Run the decoder on any number of rows."""
        return torch.cat([self.decoder(rows) for rows in torch.split(z, _BATCH)])


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: the bits of a sum must not depend on how many cores there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
