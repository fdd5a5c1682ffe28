"""The terms of the bound of a model, wherever it is stored."""

import torch
from torch import Tensor

from vaeserve_export.trained.subject import Subject
from vaeserve_export.vae.model import reparameterise
from vaeserve_export.vae.objective import Terms, batches, kl_nats


def terms(subject: Subject, x: Tensor, eps: Tensor | None) -> Terms:
    """Both terms of -ELBO of every row; see `vae.objective.row_terms`.

    Args:
        subject: the model.
        x: rows [rows, *input_shape].
        eps: standard normal noise [rows, latent_dim]; None decodes the posterior mean.
    """
    rows = batches(x)
    noise = [None] * len(rows) if eps is None else batches(eps, like=x)
    parts = [_terms(subject, *each) for each in zip(rows, noise, strict=True)]
    return Terms(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _terms(subject: Subject, x: Tensor, eps: Tensor | None) -> Terms:
    mu, log_var = subject.encode(x)
    z = mu if eps is None else reparameterise(mu, log_var, eps)
    reconstruction = subject.reconstruction_nats(x, z[:, None])[:, 0]
    return Terms(reconstruction, kl_nats(mu, log_var), mu, log_var)
