"""Seeds: the caller's once checked, or a fresh one."""

import secrets

from vaeserve._numbers import whole_number


def seed_or_new(seed: int | None) -> int:
    """Check a seed, or draw one below 2^53, which clients in every language can hold exactly.

    Raises:
        InvalidInput: the seed is no whole number within 0 .. 2^64 - 1.
    """
    if seed is None:
        return secrets.randbits(53)
    return whole_number("seed", seed, 0, 1 << 64)
