"""The nearest correct name to one that nobody knows. Pure."""

from collections.abc import Iterable
from difflib import get_close_matches

_SHOWN = 3
_LISTED = 12


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """What to say after "no such ...": the nearest names, or the few there are.

    Args:
        name: what was asked for.
        known: what there is.

    Returns:
        A sentence with a space before it; empty where there is nothing to say.
    """
    names = sorted(known)
    lower = {each.lower(): each for each in names}
    near = [lower[each] for each in get_close_matches(name.lower(), lower, _SHOWN)]
    if near:
        return f" Did you mean {' or '.join(map(repr, near))}?"
    if names and len(names) <= _LISTED:
        return f" Known: {', '.join(map(repr, names))}."
    return ""
