"""What is optimised, and beside it what is true whatever is optimised."""

import torch
from torch import Tensor, nn

from vaeserve_export.training.group import Group
from vaeserve_export.vae.model import Vae
from vaeserve_export.vae.objective import kl_by_dimension, row_terms


class Loss(nn.Module):
    """reconstruction + weight * KL in nats, the mean over the rows of a batch.

    With free bits f (Kingma et al. 2016, "Improved Variational Inference with Inverse
    Autoregressive Flow", appendix C.8) a latent dimension whose KL, averaged over the batch, is
    below f costs f and has no gradient: sum over dimensions of max(f, mean KL).
    """

    def __init__(self, vae: Vae, free_bits: float, group: Group) -> None:
        super().__init__()
        self.vae = vae
        self._free_bits = free_bits
        self._group = group

    def forward(self, x: Tensor, eps: Tensor, weight: float, rows: int) -> tuple[Tensor, Tensor]:
        """The loss of this process's share of a batch.

        Args:
            x: the share, [share, ...].
            eps: its noise, [share, latent_dim].
            weight: of the KL.
            rows: of the whole batch.

        Returns:
            The share's part of the batch's loss, to be added over processes. And sums over the
            share's rows, without gradients: reconstruction, KL without free bits, loss.
        """
        terms = row_terms(self.vae, x, eps)
        reconstruction, kl = terms.reconstruction.sum(), terms.kl.sum()
        costly = self._floored(terms.mu, terms.log_var, rows) if self._free_bits else kl
        loss = (reconstruction + weight * costly) / rows
        return loss, torch.stack([reconstruction, kl, loss * rows]).detach()

    def _floored(self, mu: Tensor, log_var: Tensor, rows: int) -> Tensor:
        """The share's part of rows * sum max(free bits, mean KL)."""
        by_dimension = kl_by_dimension(mu, log_var).sum(0)
        mean = self._group.sum(by_dimension.detach()) / rows
        above = mean > self._free_bits
        free = len(mu) * self._free_bits * (~above).sum()
        return torch.where(above, by_dimension, 0.0).sum() + free
