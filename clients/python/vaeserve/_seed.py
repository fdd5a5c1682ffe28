"""Seeds: the caller's once checked, or a fresh one."""

import secrets
from operator import index

from vaeserve._errors import InvalidInput

_LIMIT = 1 << 64


def seed_or_new(seed: int | None) -> int:
    """Check a seed, or draw one below 2^53, which clients in every language can hold exactly.

    Raises:
        InvalidInput: the seed is outside 0 .. 2^64 - 1.
    """
    if seed is None:
        return secrets.randbits(53)
    if not 0 <= (number := index(seed)) < _LIMIT:
        raise InvalidInput(f"seed must be within 0 .. 2^64 - 1, got {seed}")
    return number
