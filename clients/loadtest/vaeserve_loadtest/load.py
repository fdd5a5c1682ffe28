"""What a run sends: the settings."""

from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from vaeserve import Tls

RPCS = ("encode", "sample", "decode", "reconstruct", "score")
ARRIVALS = ("poisson", "constant")


def counted(number: int, noun: str) -> str:
    """A number of things: "1 row", "2 rows"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class Part:
    """A kind of request in the mix.

    Attributes:
        rpc: one of RPCS.
        rows: rows of each request.
        share: of the requests; the shares of a mix are taken in proportion.
    """

    rpc: str
    rows: int = 1
    share: float = 1.0

    @property
    def label(self) -> str:
        """The part as it is written: "encode" or "encode@16"."""
        return self.rpc if self.rows == 1 else f"{self.rpc}@{self.rows}"

    @classmethod
    def parse(cls, text: str) -> "Part":
        """Read "encode", "encode:0.6" or "encode@16:0.1".

        Raises:
            ValueError: another form.
        """
        label, _, share = text.strip().partition(":")
        rpc, _, rows = label.partition("@")
        try:
            return cls(rpc, int(rows or 1), float(share or 1))
        except ValueError:
            raise ValueError(f"{text!r} is no part of a mix such as encode@16:0.3") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The load of a run.

    Exactly one of `concurrency` and `rate` is set. With a concurrency the loop is closed: so many
    callers, each waiting for its answer before it sends again, so a slow server is asked less. With
    a rate the loop is open: requests start at their moments whatever the server does, as those of
    independent users do.

    Attributes:
        address: the server, host:port.
        model: name of the model.
        mix: kinds of requests.
        concurrency: callers of the closed loop.
        rate: requests a second of the open loop.
        ramp_from: where the callers or the rate begin, to reach the above at the end; None for a
            constant load. Callers only grow.
        arrivals: of the open loop: "poisson" as of independent users, or "constant" gaps.
        duration_s: seconds that are measured.
        warmup_s: seconds before them that are not.
        timeout_s: deadline of each request, seconds.
        seed: of the rows, the mix and the arrivals.
        data: an .npy or .npz file of rows to send; None for random ones.
        workers: processes that send, each on one core.
        tls: as for `vaeserve.Client`.
        token: as for `vaeserve.Client`.
    """

    address: str
    model: str
    mix: tuple[Part, ...] = (Part("encode"),)
    concurrency: int | None = None
    rate: float | None = None
    ramp_from: float | None = None
    arrivals: str = "poisson"
    duration_s: float = 10.0
    warmup_s: float = 2.0
    timeout_s: float = 30.0
    seed: int = 0
    data: Path | None = None
    workers: int = 1
    tls: bool | Tls | None = None
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if (self.concurrency is None) == (self.rate is None):
            raise ValueError("give exactly one of --concurrency and --rate")
        if self.arrivals not in ARRIVALS:
            raise ValueError(f"arrivals must be one of {', '.join(ARRIVALS)}")
        if not self.mix or (unknown := {part.rpc for part in self.mix} - set(RPCS)):
            named = ", ".join(repr(rpc) for rpc in sorted(unknown)) if self.mix else "nothing"
            raise ValueError(f"rpc must be one of {', '.join(RPCS)}, got {named}")
        shares = tuple(part.share for part in self.mix)
        figures = (
            *(self.rate, self.ramp_from, self.duration_s, self.warmup_s, self.timeout_s),
            *shares,
        )
        if not all(value is None or isfinite(value) for value in figures):
            raise ValueError("rate, duration, warmup, timeout and shares must be finite")
        rows = tuple(part.rows for part in self.mix)
        positive = (self.concurrency, self.rate, self.ramp_from, *rows, *shares)
        if any(value is not None and value <= 0 for value in positive) or self.warmup_s < 0:
            raise ValueError("concurrency, rate, ramp, rows and shares must be positive")
        if min(self.duration_s, self.timeout_s, self.workers) <= 0:
            raise ValueError("duration, timeout and workers must be positive")
        if self.concurrency is not None and self.workers > self.concurrency:
            raise ValueError(
                f"{self.workers} workers for a concurrency of {self.concurrency}: give fewer"
            )
        if self.concurrency is not None and (self.ramp_from or 0) > self.concurrency:
            raise ValueError("a ramp of callers only grows: give the fewer first; a rate may fall")

    @property
    def asked(self) -> float:
        """Callers, or requests a second."""
        return float(self.concurrency or 0) if self.rate is None else self.rate

    @property
    def target(self) -> str:
        """The load in words: "8 callers" or "500 requests/s"."""
        begin = "" if self.ramp_from is None else f"{self.ramp_from:g} to "
        if self.rate is None:
            return f"{begin}{counted(self.concurrency or 0, 'caller')}"
        return f"{begin}{self.rate:g} requests/s"

    @property
    def mixed(self) -> str:
        """The mix in words."""
        if len(self.mix) == 1:
            return f"{self.mix[0].rpc}, {counted(self.mix[0].rows, 'row')} a request"
        whole = sum(part.share for part in self.mix)
        return ", ".join(f"{100 * part.share / whole:g}% {part.label}" for part in self.mix)

    def to_json(self) -> dict[str, Any]:
        """Plain values, without how it got in: that is no result, and a secret."""
        settings = asdict(self) | {
            "mix": [asdict(part) for part in self.mix],
            "data": None if self.data is None else str(self.data),
        }
        del settings["tls"], settings["token"]
        return settings
