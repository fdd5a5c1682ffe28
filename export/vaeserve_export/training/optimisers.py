"""The optimisers of a run.

Muon is for matrices between hidden activations; biases, kernels and single numbers are Adam's.
"""

from torch import nn
from torch.optim import Adam, Optimizer

from vaeserve_export.training.learning_rate import learning_rate_share
from vaeserve_export.training.muon import Muon
from vaeserve_export.training.settings import TrainSettings

_BASE = "base_learning_rate"


def build_optimisers(model: nn.Module, settings: TrainSettings) -> list[Optimizer]:
    """Make them for all weights of a model, in an order that depends on the settings alone."""
    rate = settings.learning_rate
    if settings.optimiser == "adam":
        optimisers: list[Optimizer] = [Adam(model.parameters(), rate, fused=True)]
    else:
        matrices = [weight for weight in model.parameters() if weight.ndim == 2]
        others = [weight for weight in model.parameters() if weight.ndim != 2]
        optimisers = [
            Muon(matrices, rate),
            Adam(others, rate / 10, fused=True),
        ]
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group[_BASE] = group["lr"]
    return optimisers


def set_learning_rates(optimisers: list[Optimizer], settings: TrainSettings, epochs: float) -> None:
    """Set the learning rates for the step whose middle lies after so many epochs."""
    share = learning_rate_share(settings, epochs)
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = share * group[_BASE]


def step(optimisers: list[Optimizer]) -> None:
    """Apply the gradients, and drop them."""
    for optimiser in optimisers:
        optimiser.step()
        optimiser.zero_grad()
