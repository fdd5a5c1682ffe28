"""Whole numbers among a call's arguments."""

from operator import index
from typing import SupportsIndex

from vaeserve._errors import InvalidInput


def whole_number(name: str, value: SupportsIndex, least: int, limit: int) -> int:
    """Check a number, and make a Python int of it: numpy's would wrap around in sums.

    Args:
        name: of the argument, for the error.
        value: an int of Python or numpy.
        least: the smallest that is allowed.
        limit: the smallest above it that is not.

    Raises:
        InvalidInput: no whole number, or one outside least .. limit - 1.
    """
    try:
        number = index(value)
    except TypeError as exc:
        raise InvalidInput(f"{name} must be a whole number, got {value!r}") from exc
    if number < least:
        raise InvalidInput(f"{name} must be at least {least}, got {number}")
    if number >= limit:
        raise InvalidInput(f"{name} must be below 2^{limit.bit_length() - 1}, got {number}")
    return number
