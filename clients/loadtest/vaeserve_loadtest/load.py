"""What a run sends: the settings, and requests made of seeded random rows."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import isfinite

import numpy as np

from vaeserve import AsyncModel, ModelInfo

RPCS = ("encode", "sample", "decode", "reconstruct")

Send = Callable[[int], Awaitable[object]]
"""Sends the request of a number, and returns once it was answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The load of a run.

    Exactly one of `concurrency` and `rate` is set. With a concurrency the loop is closed: so many
    callers, each waiting for its answer before it sends again, so a slow server is asked less. With
    a rate the loop is open: requests start at random moments whatever the server does, as those of
    independent users do.

    Attributes:
        address: the server, host:port.
        model: name of the model.
        rpc: one of RPCS.
        rows: rows of each request.
        concurrency: callers of the closed loop.
        rate: requests a second of the open loop.
        duration_s: seconds that are measured.
        warmup_s: seconds before them that are not.
        timeout_s: deadline of each request, seconds.
        seed: of the rows and of the arrivals.
    """

    address: str
    model: str
    rpc: str = "encode"
    rows: int = 1
    concurrency: int | None = None
    rate: float | None = None
    duration_s: float = 10.0
    warmup_s: float = 2.0
    timeout_s: float = 30.0
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.concurrency is None) == (self.rate is None):
            raise ValueError("give exactly one of --concurrency and --rate")
        if self.rpc not in RPCS:
            raise ValueError(f"rpc must be one of {', '.join(RPCS)}, got {self.rpc!r}")
        figures = (self.rate, self.duration_s, self.warmup_s, self.timeout_s)
        if not all(value is None or isfinite(value) for value in figures):
            raise ValueError("rate, duration, warmup and timeout must be finite")
        positive = (self.concurrency, self.rate, self.rows, self.duration_s, self.timeout_s)
        if any(value is not None and value <= 0 for value in positive) or self.warmup_s < 0:
            raise ValueError("concurrency, rate, rows, duration and timeout must be positive")


def requests(load: Load, model: AsyncModel, info: ModelInfo) -> Send:
    """Make the sender of a run.

    Every request carries the same rows (uniform in [0, 1) as pictures, standard normal as latents);
    those of sample differ by their seed.

    Raises:
        ValueError: more rows than one request may have, which would be measured as several.
    """
    if 0 < info.limits.max_rows < load.rows:
        raise ValueError(
            f"{load.rows} rows are more than the {info.limits.max_rows} that {info.name!r} takes "
            "in one request"
        )
    random = np.random.default_rng(load.seed)
    x = random.random((load.rows, *info.input_shape), np.float32)
    z = random.standard_normal((load.rows, *info.latent_shape), np.float32)
    senders: dict[str, Send] = {
        "encode": lambda _: model.encode(x),
        "sample": lambda number: model.sample(load.rows, seed=load.seed + number),
        "decode": lambda _: model.decode(z),
        "reconstruct": lambda _: model.reconstruct(x),
    }
    return senders[load.rpc]
