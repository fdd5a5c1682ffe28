"""A linear or convolutional map followed by its nonlinearity, by name."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
}


class Gated(nn.Module):
    """value(x) * sigmoid(gate(x)) (Dauphin et al. 2017), as in the VAEs of Tomczak and Welling.

    Two maps rather than one of double width: an optimiser that treats a weight as one matrix
    should see two.
    """

    def __init__(self, value: nn.Module, gate: nn.Module) -> None:
        super().__init__()
        self.value = value
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        """Map x as both do."""
        gated: Tensor = self.value(x) * torch.sigmoid(self.gate(x))
        return gated


def activated(make: Callable[[], nn.Module], activation: str) -> nn.Module:
    """The map that `make` makes, with "relu", "tanh", "silu" after it, or "gated" by a second."""
    if activation == "gated":
        return Gated(make(), make())
    return nn.Sequential(make(), _ACTIVATIONS[activation]())
