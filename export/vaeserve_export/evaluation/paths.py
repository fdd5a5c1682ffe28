"""Paths between codes."""

import torch
from torch import Tensor

_APART = 1e-4  # of the sine of the angle: below, there is no one great circle


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Walk from a to b on the great circle, the norm straight (White 2016).

    Half-way between two draws from N(0, I) lies another such draw, where the straight line passes
    nearer to the origin than any of them.

    Args:
        a: [rows, latent_dim].
        b: the same shape.
        t: 0 is a, 1 is b.

    Returns:
        The same shape; on the straight line where ends are opposite, parallel or at the origin.
    """
    straight = (1 - t) * a + t * b
    norm_a, norm_b = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    unit_a, unit_b = a / norm_a, b / norm_b
    angle = torch.acos((unit_a * unit_b).sum(1, keepdim=True).clamp(-1, 1))
    sine = angle.sin()
    turned = (torch.sin((1 - t) * angle) * unit_a + torch.sin(t * angle) * unit_b) / sine
    curved = turned * ((1 - t) * norm_a + t * norm_b)
    return torch.where(sine > _APART, curved, straight)
