"""What the command's options mean: text in, values out."""

from collections.abc import Callable
from typing import Any, NamedTuple

import click

from vaeserve_loadtest.load import Part

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
_LOOPS = {"rate": float, "concurrency": int}


class Steps(NamedTuple):
    """Values of `rate` or `concurrency`: those of a sweep, or the two ends of a ramp."""

    of: str
    values: tuple[float, ...]


def parsed(parse: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """An option's callback that says what a ValueError of the parser says."""

    def callback(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
        try:
            return None if value is None else parse(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return callback


def seconds(text: str) -> float:
    """Read "500ms", "10s", "2m" or a plain number of seconds.

    Raises:
        ValueError: another form.
    """
    number = text.rstrip("ums")
    try:
        return float(number) * _UNITS[text[len(number) :] or "s"]
    except (ValueError, KeyError):
        raise ValueError(f"{text!r} is no time such as 10s, 500ms or 2m") from None


def mix(text: str) -> tuple[Part, ...]:
    """Read "encode:0.6,encode@16:0.1,sample:0.3".

    Raises:
        ValueError: another form.
    """
    return tuple(Part.parse(part) for part in text.split(","))


def sweep(text: str) -> Steps:
    """Read "rate=100,200,400" or "concurrency=1,2,4".

    Raises:
        ValueError: another form.
    """
    return _steps(text, ",", "concurrency=1,2,4,8")


def ramp(text: str) -> Steps:
    """Read "rate=100:1000" or "concurrency=1:64".

    Raises:
        ValueError: another form, or not two values.
    """
    steps = _steps(text, ":", "rate=100:1000")
    if len(steps.values) != 2:
        raise ValueError(f"{text!r}: a ramp has two ends, as in rate=100:1000")
    return steps


def _steps(text: str, separator: str, example: str) -> Steps:
    of, _, listed = text.partition("=")
    try:
        return Steps(of, tuple(_LOOPS[of](each) for each in listed.split(separator)))
    except (KeyError, ValueError):
        raise ValueError(f"{text!r} is nothing such as {example}") from None
