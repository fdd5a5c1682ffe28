"""The learning rate as a share of its setting."""

import math

from vaeserve_export.training.settings import TrainSettings

_WARM_UP = 0.03  # of all epochs: the first steps are far too large for a net that knows nothing


def learning_rate_share(settings: TrainSettings, epochs: float) -> float:
    """The share after so many epochs, which may be a fraction.

    Cosine: linear to 1 over the first 3 % of all epochs, then to 0 along half a cosine (Loshchilov
    and Hutter 2017, without restarts). A run that is resumed with another number of epochs goes on
    along the new curve.
    """
    if settings.schedule == "constant":
        return 1.0
    warm_up = _WARM_UP * settings.epochs
    if epochs < warm_up:
        return epochs / warm_up
    done = (epochs - warm_up) / (settings.epochs - warm_up)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
