"""How much of a message is not elements of arrays, told from its bytes before it is parsed.

An array's elements take as much memory as on the wire. Other fields grow: two bytes make an empty
message of 90, one byte a list's entry of ten. So in a large message all but the elements is
bounded, and found out without making anything of it.

Encoding: https://protobuf.dev/programming-guides/encoding. What cannot be read here is refused and
not left to the parser: the two must not differ in where they think a field ends.
"""

from functools import cache
from typing import Any, NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from vaeserve_server.errors import InvalidArgument

MOST_BESIDES = 64 * 1024
"""Bytes of a message beside its arrays' elements, their tags and lengths included."""

MOST_VARINTS = 8 * 1024 * 1024
"""Bytes of elements that are packed as varints; each takes ten times as much once parsed."""

_BYTES = frozenset(
    {
        "vaeserve.v1.Tensor.data",
        "inference.ModelInferRequest.raw_input_contents",
        "inference.InferTensorContents.fp32_contents",
    }
)
_VARINTS = frozenset({"inference.InferTensorContents.uint_contents"})

# Wire types; the others are groups, which no message of ours has.
_VARINT, _DELIMITED = 0, 2
_WIDTHS = {1: 8, 5: 4}
_MOST_VARINT_BYTES = 10


class _Place(NamedTuple):
    """A field that holds elements, or messages that do; these have a kind."""

    name: str
    varints: bool
    kind: Descriptor | None


def check(data: bytes, kind: type[Message]) -> None:
    """Refuse a message that would take far more memory than it has bytes.

    Args:
        data: the message.
        kind: what it is said to be.

    Raises:
        InvalidArgument: it is no protobuf message, or has more than `MOST_BESIDES` bytes beside its
            arrays' elements, or more than `MOST_VARINTS` of those that grow.
    """
    descriptor: Any = kind.DESCRIPTOR
    _Walk(data, descriptor.full_name).through(0, len(data), descriptor, "")


@cache
def _places(kind: Descriptor) -> dict[int, _Place]:
    places = {field.number: _place(field) for field in kind.fields}
    return {number: place for number, place in places.items() if place is not None}


def _place(field: FieldDescriptor) -> _Place | None:
    varints = field.full_name in _VARINTS
    kind = field.message_type
    if kind is not None and not _places(kind):
        return None
    if kind is None and not varints and field.full_name not in _BYTES:
        return None
    return _Place(field.name, varints, kind)


class _Walk:
    """One message, looked through once."""

    def __init__(self, data: bytes, kind: str) -> None:
        self._data = data
        self._kind = kind
        self._besides = MOST_BESIDES
        self._varints = MOST_VARINTS

    def through(self, at: int, end: int, kind: Descriptor, path: str) -> None:
        """Look through the fields between two positions."""
        places = _places(kind)
        while at < end:
            begin = at
            tag, at = self._varint(at, end)
            wire, number, place = tag & 7, tag >> 3, None
            if wire == _DELIMITED:
                size, at = self._varint(at, end)
                place = places.get(number)
            elif wire == _VARINT:
                _, at = self._varint(at, end)
                size = 0
            elif wire in _WIDTHS:
                size = _WIDTHS[wire]
            else:
                raise malformed(self._kind)
            first, at = at, at + size
            if at > end:
                raise malformed(self._kind)
            self._besides -= (at if place is None else first) - begin
            if self._besides < 0:
                field = kind.fields_by_number.get(number)
                raise self._refusal(
                    f"{MOST_BESIDES} bytes beside the elements of its arrays",
                    None if field is None else path + field.name,
                )
            if place is None:
                continue
            if place.varints:
                self._varints -= size
                if self._varints < 0:
                    raise self._refusal(
                        f"{MOST_VARINTS} bytes of {place.name}; send raw bytes", path + place.name
                    )
            if place.kind is not None:
                self.through(first, at, place.kind, f"{path}{place.name}.")

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        """The number that begins at a position, and where it ends."""
        if at < end and self._data[at] < 0x80:
            return self._data[at], at + 1  # the commonest
        value = 0
        for position, byte in enumerate(self._data[at : min(end, at + _MOST_VARINT_BYTES)]):
            value |= (byte & 0x7F) << 7 * position
            if byte < 0x80:
                return value, at + position + 1
        raise malformed(self._kind)

    def _refusal(self, too_much: str, field: str | None) -> InvalidArgument:
        return InvalidArgument(
            f"the {self._kind} has more than {too_much}", reason="MALFORMED_MESSAGE", field=field
        )


def malformed(kind: str) -> InvalidArgument:
    """What the sender of bytes is told that are no message of the kind."""
    return InvalidArgument(f"the message is no {kind}", reason="MALFORMED_MESSAGE")
