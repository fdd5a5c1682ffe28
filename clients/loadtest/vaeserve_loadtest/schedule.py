"""When the requests of an open loop start. Pure."""

import numpy as np
import numpy.typing as npt


def poisson_arrivals(rate: float, duration_s: float, seed: int) -> npt.NDArray[np.float64]:
    """Arrivals of many independent callers: a Poisson process.

    Args:
        rate: mean arrivals a second.
        duration_s: length of the process, seconds.
        seed: the same seed gives the same arrivals, and a longer process begins with a shorter one.

    Returns:
        Ascending moments in seconds, within [0, duration_s).
    """
    random = np.random.default_rng(seed)
    block = max(1, int(rate))  # a fixed size, so that the draws do not depend on the duration
    blocks = [np.cumsum(random.exponential(1 / rate, block))]
    while blocks[-1][-1] < duration_s:
        blocks.append(blocks[-1][-1] + np.cumsum(random.exponential(1 / rate, block)))
    arrivals = np.concatenate(blocks)
    return arrivals[arrivals < duration_s]
