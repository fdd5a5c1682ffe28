"""The nearest correct name to one that nobody knows, and where it is. Pure."""

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


def no_attribute(owner: object, name: str, place: str, kind: type) -> AttributeError:
    """What to raise for an attribute that is not there, when a neighbour may have it.

    Python's own suggestions look at the object alone, and are in uncaught tracebacks only.

    Args:
        owner: the object.
        name: what was asked for.
        place: the expression for the neighbour, such as "model.info".
        kind: its class.
    """
    text = f"{type(owner).__name__!r} object has no attribute {name!r}"
    there = {each for each in dir(kind) if not each.startswith("_")} - {*dir(owner)}
    near = get_close_matches(name, {*dir(owner)} | there, 1)
    return AttributeError(f"{text}; see {place}.{near[0]}" if there.intersection(near) else text)
