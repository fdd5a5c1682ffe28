"""What `--data` says: a source, its place, and how to read it."""

import re
from dataclasses import dataclass
from pathlib import Path

from vaeserve_export.errors import DataError

NAMED = ("mnist", "fashion-mnist")
SOURCES = (
    "digits, mnist, fashion-mnist, idx:DIR, npz:FILE, npy:FILE, "
    "folder:DIR[,resize=HxW][,grey], csv:PLACE[,label=COLUMN] or parquet:PLACE[,label=COLUMN]"
)
_OPTIONS = {
    "idx": (),
    "npz": (),
    "npy": (),
    "folder": ("resize", "grey"),
    "csv": ("label",),
    "parquet": ("label",),
}
_OPTION = re.compile(r"grey|[a-z_]+=.*", re.DOTALL)
_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")


@dataclass(frozen=True)
class Spec:
    """A source of data.

    Attributes:
        source: kind: `digits`, a named set, or a format.
        place: file or folder; None where the source needs none.
        size: height and width that pictures are brought to.
        grey: whether pictures lose their colours.
        label: the table's column of labels.
    """

    source: str
    place: Path | None = None
    size: tuple[int, int] | None = None
    grey: bool = False
    label: str | None = None


def parse(text: str) -> Spec:
    """Read a specification: SOURCE, or SOURCE:PLACE and options, each after a comma.

    They belong to the specification, since they are part of what a run was trained on: one string
    in its config.json reads the same rows again.

    Raises:
        DataError: an unknown source, or options that it does not have.
    """
    source, colon, rest = text.partition(":")
    if not colon and source in {"digits", *NAMED}:
        return Spec(source)
    place, options = _without_options(rest)
    if not place or source not in _OPTIONS:
        raise DataError(f"{text!r} is no data source; use {SOURCES}")
    for name in options:
        if name not in _OPTIONS[source]:
            known = ", ".join(_OPTIONS[source]) or "none"
            raise DataError(f"{text!r}: {source} has no option {name}; it has {known}")
    return Spec(
        source,
        Path(place),
        size=_size(options["resize"], text) if "resize" in options else None,
        grey="grey" in options,
        label=options.get("label"),
    )


def _without_options(rest: str) -> tuple[str, dict[str, str]]:
    """The place, and the options behind it; a place may hold commas, too."""
    place, options = rest, {}
    while "," in place and _OPTION.fullmatch(place[place.rindex(",") + 1 :]):
        place, _, option = place.rpartition(",")
        name, _, value = option.partition("=")
        options[name] = value
    return place, options


def _size(value: str, text: str) -> tuple[int, int]:
    found = _SIZE.fullmatch(value)
    if not found:
        raise DataError(f"{text!r}: resize takes height x width in pixels, such as resize=64x64")
    return int(found[1]), int(found[2])
