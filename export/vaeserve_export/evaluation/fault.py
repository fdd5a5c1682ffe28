"""A fault, for a program and for a person."""

from dataclasses import dataclass

NAMES = (
    "untrained",
    "plain_autoencoder",
    "kl_averaged",
    "kl_underweighted",
    "kl_overweighted",
    "reconstruction_averaged",
    "posterior_collapse",
    "log_var_clamped",
    "overfitting",
)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is wrong.

    Attributes:
        name: an identifier that does not change, one of NAMES.
        title: one line.
        evidence: sentences with the figures that show it.
        cause: what most likely led to it.
        remedy: what to do.
    """

    name: str
    title: str
    evidence: tuple[str, ...]
    cause: str
    remedy: str
