"""The loop that everybody writes: no validation, no checkpoint, no figures, nothing to resume."""

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from vaeserve_export.training.rows import thresholds, uniform_levels


def bare_loop(x: Tensor, batch_size: int, steps: int, *, quick_pixels: bool) -> None:
    """Train 784-200-200-50 with tanh on binarised rows for so many steps.

    Args:
        x: [rows, 784] in [0, 1].
        batch_size: rows a step.
        steps: to take.
        quick_pixels: draw pixels as the trainer does, and not by torch.bernoulli.
    """
    torch.manual_seed(0)
    encoder = nn.Sequential(
        nn.Linear(784, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, 100)
    )
    decoder = nn.Sequential(
        nn.Linear(50, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, 784)
    )
    weights = [*encoder.parameters(), *decoder.parameters()]
    optimiser = torch.optim.Adam(weights, 1e-3, fused=True)
    generator = torch.Generator().manual_seed(0)
    limits = thresholds(x)
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(order) < batch_size:
            order = torch.randperm(len(x), generator=generator)
        batch, order = order[:batch_size], order[batch_size:]
        if quick_pixels:
            levels = uniform_levels((batch_size, 784), generator)
            rows = (levels < limits[batch]).float()
        else:
            rows = torch.bernoulli(x[batch], generator=generator)
        mu, log_var = encoder(rows).chunk(2, 1)
        z = mu + (0.5 * log_var).exp() * torch.randn(batch_size, 50, generator=generator)
        nats = F.binary_cross_entropy_with_logits(decoder(z), rows, reduction="sum")
        kl = 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum()
        optimiser.zero_grad()
        ((nats + kl) / batch_size).backward()
        optimiser.step()
