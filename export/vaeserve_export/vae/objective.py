"""The negative evidence lower bound, in nats per row.

-ELBO(x) = E_q(z|x)[-log p(x|z)] + KL(q(z|x) || N(0, I))      (Kingma and Welling 2014, equation 3)

Both terms are sums: the first over the elements of a row, the second over latent dimensions. Only
rows are averaged. A mean over elements or dimensions would multiply one term by an arbitrary
factor, and so silently train with another beta. The KL is what makes a VAE generative: without it
the encoder is free to shrink sigma to zero and scatter the rows' codes anywhere, and a draw from
the prior then decodes to nothing the decoder has seen.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from vaeserve_export.vae.model import Vae, reparameterise

EVALUATION_BATCH = 512
EVALUATION_ELEMENTS = 1 << 22  # of a batch, where rows are so large that fewer must do


class Terms(NamedTuple):
    """The terms of the bound and the posterior they belong to, row by row."""

    reconstruction: Tensor
    """-log p(x|z) in nats, [rows]."""
    kl: Tensor
    """KL(q(z|x) || N(0, I)) in nats, [rows]."""
    mu: Tensor
    """Posterior means, [rows, latent_dim]."""
    log_var: Tensor
    """Logarithms of the posterior variances, [rows, latent_dim]."""


def kl_nats(mu: Tensor, log_var: Tensor) -> Tensor:
    """KL(N(mu, sigma^2) || N(0, I)) = 1/2 sum(mu^2 + sigma^2 - 1 - log sigma^2).

    Kingma and Welling 2014, appendix B.

    Args:
        mu: [rows, latent_dim].
        log_var: log sigma^2, [rows, latent_dim].

    Returns:
        Nats, [rows], never negative but for rounding.
    """
    return kl_by_dimension(mu, log_var).sum(1)


def kl_by_dimension(mu: Tensor, log_var: Tensor) -> Tensor:
    """The summands of `kl_nats`: nats, [rows, latent_dim]."""
    return 0.5 * (mu.square() + log_var.exp() - 1 - log_var)


def row_terms(vae: Vae, x: Tensor, eps: Tensor, *, as_served: bool = False) -> Terms:
    """Both terms with one draw per row.

    Args:
        vae: the model.
        x: rows [rows, ...].
        eps: standard normal noise [rows, latent_dim]; zeros decode the posterior mean.
        as_served: take of the decoder what its graph tells: probabilities, not logits.
    """
    # Autocast, under which a net may be trained, ends here: sums are not for bfloat16.
    mu, log_var = (output.to(x.dtype) for output in vae.encoder(x))
    raw = vae.decoder.raw(reparameterise(mu, log_var, eps)).to(x.dtype)
    if as_served:
        raw = vae.likelihood.raw(vae.likelihood.mean(raw))
    return Terms(vae.decoder.nats(raw, x), kl_nats(mu, log_var), mu, log_var)


@torch.no_grad()
def evaluate(vae: Vae, x: Tensor, eps: Tensor, *, as_served: bool = False) -> Terms:
    """`row_terms` of many rows without gradients, in batches that fit into memory.

    The rows may lie elsewhere than the model, which is fed with a batch at a time.
    """
    device = next(vae.parameters()).device
    parts = [
        row_terms(vae, rows.to(device), noise.to(device), as_served=as_served)
        for rows, noise in zip(batches(x), batches(eps, like=x), strict=True)
    ]
    return Terms(*(torch.cat(column).to(x.device) for column in zip(*parts, strict=True)))


def batches(rows: Tensor, like: Tensor | None = None) -> tuple[Tensor, ...]:
    """Rows in batches that fit into memory.

    Args:
        rows: [rows, ...].
        like: other rows, as whose batches these shall be cut.
    """
    measured = rows if like is None else like
    size = max(1, min(EVALUATION_BATCH, EVALUATION_ELEMENTS // measured[0].numel()))
    return torch.split(rows, size)
