"""How many threads a training step is fastest with, measured before the training."""

import copy
import time
from collections.abc import Callable

import torch
from torch import Tensor

from vaeserve_export.vae.model import Vae
from vaeserve_export.vae.objective import row_terms

_SMALL_STEP_SECONDS = 0.02
"""Below this a step is not worth the threads' waiting for each other, which on a shared machine
can take longer than the work."""

_WORTH = 0.8  # of the time with fewer threads: twice the processors for less is a waste of them


def measured_threads(vae: Vae, x: Tensor, cores: int) -> int:
    """The number of threads for steps on such a batch; sets PyTorch's to it.

    Args:
        vae: the model; a copy of it takes the steps.
        x: a batch [rows, ...].
        cores: processors there are for this process.
    """
    trial = copy.deepcopy(vae)
    eps = torch.zeros(len(x), vae.config.latent_dim)

    def step() -> None:
        terms = row_terms(trial, x, eps)
        (terms.reconstruction.sum() + terms.kl.sum()).backward()  # type: ignore[no-untyped-call]

    best, threads = 1, 2
    torch.set_num_threads(best)
    seconds = _fastest(step)
    while seconds > _SMALL_STEP_SECONDS and threads <= cores:
        torch.set_num_threads(threads)
        now = _fastest(step)
        if now > _WORTH * seconds:
            break
        best, seconds, threads = threads, now, 2 * threads
    torch.set_num_threads(best)
    return best


def _fastest(step: Callable[[], None]) -> float:
    """Seconds of the fastest of a few calls, after one that warms up."""
    step()
    seconds = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        step()
        seconds = min(seconds, time.perf_counter() - started)
        if seconds < _SMALL_STEP_SECONDS:
            break
    return seconds
