"""When the requests of an open loop start, and the callers of a closed one. Pure."""

import numpy as np
import numpy.typing as npt

from vaeserve_loadtest.load import Load

Moments = npt.NDArray[np.float64]


def arrivals(load: Load) -> Moments:
    """When the requests of an open loop start.

    The schedule is made of arrivals at a mean of one a second, stretched by the rate: where that
    grows, so does their density.

    Returns:
        Ascending moments in seconds, within [0, warm-up + duration). The same seed gives the same
        ones, and a longer run begins with a shorter one's.
    """
    assert load.rate is not None, "This is a bug."  # noqa: S101  for the type checker
    begin = load.rate if load.ramp_from is None else load.ramp_from
    warm = begin * load.warmup_s
    total = warm + (begin + load.rate) / 2 * load.duration_s
    unit = _poisson(total, load.seed) if load.arrivals == "poisson" else np.arange(0.0, total)
    return np.where(
        unit < warm,
        unit / begin,
        load.warmup_s + _since_ramp(unit - warm, begin, load.rate, load.duration_s),
    )


def caller_starts(load: Load) -> Moments:
    """When the callers of a closed loop begin, seconds, one for each."""
    assert load.concurrency is not None, "This is a bug."  # noqa: S101  for the type checker
    numbers = np.arange(load.concurrency)
    if load.ramp_from is None or load.ramp_from == load.concurrency:
        return np.zeros(load.concurrency)
    added = (numbers - load.ramp_from + 1) / (load.concurrency - load.ramp_from)
    return np.where(numbers < load.ramp_from, 0, load.warmup_s + added * load.duration_s)


def seed_of_run(seed: int, number: int) -> int:
    """The seed of one of several runs that are to be independent of one another.

    Not the sum of both: two searches of neighbouring seeds would share nearly all their runs.
    """
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])


def _poisson(total: float, seed: int) -> Moments:
    """Arrivals of many independent callers, one a second: a Poisson process on [0, total)."""
    random = np.random.default_rng(seed)
    blocks = [np.cumsum(random.exponential(1.0, 1024))]
    while blocks[-1][-1] < total:
        blocks.append(blocks[-1][-1] + np.cumsum(random.exponential(1.0, 1024)))
    found = np.concatenate(blocks)
    return found[found < total]


def _since_ramp(unit: Moments, begin: float, end: float, length: float) -> Moments:
    """Solve begin * t + (end - begin) * t^2 / (2 * length) = unit for t."""
    if begin == end:
        return unit / begin
    slope = (end - begin) / length
    return np.asarray((np.sqrt(np.maximum(begin**2 + 2 * slope * unit, 0)) - begin) / slope)
