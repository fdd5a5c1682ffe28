"""What to be wary of in a run's figures."""

from typing import NamedTuple


class Caution(NamedTuple):
    """A reason not to take a run's figures for the server's.

    Attributes:
        text: what is wrong, with the run's figures.
        summary: the same of any run, without figures.
        of_generator: whether the load generator is what may have been the limit.
    """

    text: str
    summary: str
    of_generator: bool = False
