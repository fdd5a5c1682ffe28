"""Callers that no gRPC library would be: calls left half done, and bytes that are no HTTP/2."""

import gzip
import random
import struct

import grpc
import pytest

from bench.http2 import PING, SETTINGS, frame, framed
from support.raw_calls import ENCODE, REQUEST, VAE, Counts, channel_to, ending
from support.raw_http2 import PREFACE, Fields, headers, wire_to
from vaeserve_server.app import App

MESSAGE = framed(REQUEST)
GZIP = (b"grpc-encoding", b"gzip")
OK, NO_MESSAGE, LATE = "0", "12", "4"
# How, depends on the release of grpcio.
REFUSED = "refused"
REFUSED_OR_NOT = "refused or not"


def stream(name: str) -> Fields:
    return headers(path=f"{VAE}/{name}".encode())


def compressed(data: bytes) -> bytes:
    return b"\1" + struct.pack(">I", len(data)) + data


CALLS: dict[str, tuple[Fields, bytes, str]] = {
    "a usual one": (headers(), MESSAGE, OK),
    "no message": (headers(), b"", NO_MESSAGE),
    "two messages": (headers(), MESSAGE + MESSAGE, OK),
    "part of a message": (headers(), MESSAGE[:50], NO_MESSAGE),
    "part of a prefix": (headers(), MESSAGE[:3], NO_MESSAGE),
    "a message of 4 GiB": (headers(), b"\0\xff\xff\xff\xff" + bytes(99), REFUSED),
    "gzip": (headers(GZIP), compressed(gzip.compress(REQUEST)), OK),
    "gzip that is none": (headers(GZIP), compressed(REQUEST), REFUSED),
    "compressed by nothing": (headers(), compressed(REQUEST), REFUSED_OR_NOT),
    "compressed by nobody knows what": (headers((b"grpc-encoding", b"x")), MESSAGE, REFUSED),
    "a value beyond UTF-8": (headers((b"x-odd", bytes(range(0x80, 0x100)))), MESSAGE, OK),
    "a value of control characters": (headers((b"x-odd", b"\1\2\x7f")), MESSAGE, OK),
    "a name beyond ASCII": (headers((b"x-\xe9", b"1")), MESSAGE, REFUSED),
    "a binary value that is none": (headers((b"x-bin", b"!*")), MESSAGE, REFUSED),
    "GET": (headers(method=b"GET"), MESSAGE, REFUSED),
    "no path": (headers(path=None), MESSAGE, REFUSED),
    "a path beyond UTF-8": (headers(path=b"/\xff/\xe9"), MESSAGE, NO_MESSAGE),
    "no content type": (headers(content_type=None), MESSAGE, OK),
    "out of time on arrival": (headers((b"grpc-timeout", b"0m")), MESSAGE, LATE),
    "time below nothing": (headers((b"grpc-timeout", b"-1S")), MESSAGE, REFUSED),
    "time that is none": (headers((b"grpc-timeout", b"soon")), MESSAGE, REFUSED),
    "time for ever": (headers((b"grpc-timeout", b"99999999H")), MESSAGE, OK),
    "a stream": (stream("EncodeStream"), MESSAGE * 3, OK),
    "a stream of nothing": (stream("EncodeStream"), b"", OK),
    "a stream that breaks off": (stream("EncodeStream"), MESSAGE + MESSAGE[:9], OK),
    "a server stream of nothing": (stream("SampleStream"), b"", NO_MESSAGE),
}


@pytest.mark.parametrize("case", CALLS)
def test_both_end_alike(transports: dict[str, App], case: str) -> None:
    fields, data, expected = CALLS[case]
    ends = set()
    for app in transports.values():
        counts = Counts(app)
        with wire_to(app) as wire:
            wire.open().call(1, fields)
            wire.data(1, data)
            ends.add(wire.status(1))
        alive(app)
        assert counts.unanswered() == 0
    (end,) = ends
    assert end == expected or (expected == REFUSED and end != OK) or expected == REFUSED_OR_NOT


def alive(app: App) -> None:
    with channel_to(app) as channel:
        assert ending(channel, ENCODE, REQUEST).code is grpc.StatusCode.OK


NOISE = random.Random(3).randbytes(4096)  # noqa: S311  the same in every run
SETTING = frame(SETTINGS, 0, 0, b"")
CONNECTIONS = {
    "silence": b"",
    "HTTP/1.1": b"GET /metrics HTTP/1.1\r\nHost: me\r\n\r\n",
    "noise": NOISE,
    "half a preface": PREFACE[:9],
    "noise after the preface": PREFACE + NOISE,
    "a frame that is too long": PREFACE + b"\xff\xff\xff" + bytes(6) + NOISE,
    "a frame of an unknown kind": PREFACE + SETTING + frame(0xEE, 0, 0, NOISE),
    "data of a stream that was never opened": PREFACE + SETTING + frame(0, 0, 9, NOISE),
    "headers that are none": PREFACE + SETTING + frame(1, 4, 1, NOISE[:90]),
    "headers that never end": PREFACE
    + SETTING
    + frame(1, 0, 1, b"\x83")
    + frame(9, 0, 1, b"\x86") * 50,
    "pings": PREFACE + SETTING + frame(PING, 0, 0, bytes(8)) * 50,
}


@pytest.mark.parametrize("case", CONNECTIONS)
def test_connections_that_talk_nonsense(served: App, case: str) -> None:
    with wire_to(served) as wire:
        wire.send(CONNECTIONS[case])
        alive(served)
    with wire_to(served) as wire:
        wire.send(CONNECTIONS[case])
    alive(served)


def test_streams_that_are_reset(served: App) -> None:
    """Before the message, in the middle of it, and right after it."""
    counts = Counts(served)
    for _ in range(20):
        with wire_to(served) as wire:
            wire.open()
            for number in range(1, 120, 2):
                wire.call(number, headers())
                wire.data(number, MESSAGE[: number * 10], end=number % 4 == 1)
                wire.reset(number)
    alive(served)
    counts.settle_somehow()


def test_connections_that_are_cut(served: App) -> None:
    unary, streams = Counts(served), Counts(served, f"{VAE}/EncodeStream")
    for size in range(0, 400, 7):
        with wire_to(served) as wire:
            wire.open().call(1, headers())
            wire.call(3, stream("EncodeStream"))
            for number in (1, 3):
                wire.data(number, (MESSAGE + MESSAGE)[:size], end=False)
    alive(served)
    for counts in unary, streams:
        counts.settle_somehow()
