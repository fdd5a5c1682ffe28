"""The weight of the KL in the loss, and when it is at its full beta.

Linear warm-up (Bowman et al. 2016) gives the decoder time to use the latents before the KL presses
them onto the prior. Cyclical annealing (Fu et al. 2019) warms up again and again: the latents
learned in one cycle are where the next one starts.
"""

from vaeserve_export.training.settings import TrainSettings


def kl_weight(settings: TrainSettings, epochs: float) -> float:
    """The weight after so many epochs, which may be a fraction."""
    if not settings.kl_warmup_epochs:
        return settings.beta
    if settings.kl_cycle_epochs:
        # The end of a cycle belongs to it, with its full weight, and not to the next.
        epochs = settings.kl_cycle_epochs - (-epochs % settings.kl_cycle_epochs)
    return settings.beta * min(1.0, epochs / settings.kl_warmup_epochs)


def warm_since(settings: TrainSettings, epoch: int) -> int:
    """The epoch at whose end the latest growth of the weight, up to `epoch`, is or will be over."""
    if not settings.kl_cycle_epochs:
        return settings.kl_warmup_epochs
    begun = max(0, epoch - 1) // settings.kl_cycle_epochs
    return begun * settings.kl_cycle_epochs + settings.kl_warmup_epochs
