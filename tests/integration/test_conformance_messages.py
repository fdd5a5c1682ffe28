"""Metadata, compression and large messages, on either transport."""

import grpc
import pytest

from support.raw_calls import (
    ENCODE,
    REQUEST,
    ROWS,
    VAE,
    Counts,
    Ending,
    channel_to,
    ending,
    padded,
)
from vaeserve.v1 import vae_service_pb2 as pb
from vaeserve.v1.arrays import to_tensor
from vaeserve_server.app import App

ODD_METADATA = {
    "binary": (("blob-bin", bytes(range(256))), ("empty-bin", b"")),
    "twice": (("again", "1"), ("again", "2"), ("again", "1")),
    "empty": (("nothing", ""),),
    "spaces and commas": (("list", " a, b;c=d "), ("quotes", '"\\\\%20')),
    "long": (("long", "x" * 4000),),
    "many": tuple((f"key-{number}", str(number)) for number in range(100)),
    "ours, with another value": (("vaeserve-timing", "yes"),),
    "tracing": (
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("grpc-trace-bin", b"\0" * 29),
    ),
}
MIB = 1 << 20
Code = grpc.StatusCode


@pytest.mark.parametrize("case", ODD_METADATA)
def test_metadata_that_is_nobodys(served: App, case: str) -> None:
    with channel_to(served) as channel:
        plain = ending(channel, ENCODE, REQUEST)
        assert ending(channel, ENCODE, REQUEST, metadata=ODD_METADATA[case]) == plain
    assert (plain.code, plain.trailers) == (Code.OK, {})


def test_timing_for_those_who_ask(served: App) -> None:
    ask = (("other", "1"), ("vaeserve-timing", "1"))
    request = pb.ReconstructRequest(model="digits", input=to_tensor(ROWS)).SerializeToString()
    with channel_to(served) as channel:
        (timing,) = ending(channel, f"{VAE}/Reconstruct", request, metadata=ask).trailers.items()
        refused = ending(channel, ENCODE, b"\xff", metadata=ask)
    assert timing[0] == "vaeserve-timing"
    entries = [entry.split(";") for entry in str(timing[1]).split(",")]
    assert [graph for graph, *_ in entries] == ["digits-encoder", "digits-decoder"]
    for _, *parts in entries:
        names, values = zip(*(part.split("=") for part in parts), strict=True)
        assert names == ("queue_us", "run_us", "rows", "close")
        assert values[2:] == ("2", "idle")
    assert (refused.code, refused.trailers) == (Code.INVALID_ARGUMENT, {})


@pytest.mark.parametrize("algorithm", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compression(served: App, algorithm: grpc.Compression) -> None:
    with channel_to(served) as channel:
        plain = ending(channel, ENCODE, REQUEST)
        # One message, and a connection that offers and accepts it.
        assert ending(channel, ENCODE, REQUEST, compression=algorithm) == plain
    with channel_to(served, ("grpc.default_compression_algorithm", int(algorithm))) as channel:
        assert ending(channel, ENCODE, REQUEST) == plain
        assert ending(channel, ENCODE, padded(MIB)) == plain


def test_large_requests(served: App) -> None:
    with channel_to(served) as channel:
        plain = ending(channel, ENCODE, REQUEST)
        for size in (MIB // 4, 4 * MIB, 63 * MIB):
            assert ending(channel, ENCODE, padded(size)) == plain


def test_large_replies(transports: dict[str, App]) -> None:
    """A draw is 20 floats."""
    request = pb.EncodeRequest(
        model="digits",
        input=to_tensor(ROWS),
        outputs=[pb.ENCODE_OUTPUT_DRAWS],
        draws=25_000,
        seed=1,
    )

    def answer(app: App) -> Ending:
        with channel_to(app) as channel:
            return ending(channel, ENCODE, request.SerializeToString())

    lane, standard = map(answer, transports.values())
    assert lane == standard
    assert lane.reply is not None
    assert len(lane.reply) > 2 * 25_000 * 20 * 4


@pytest.mark.parametrize("algorithm", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_messages_over_the_limit(served: App, algorithm: grpc.Compression) -> None:
    """Also where they are small on the wire: 80 MiB of zeros are 80 KiB."""
    counts = Counts(served)
    with channel_to(served) as channel:
        refused = ending(channel, ENCODE, bytes(80 * MIB), compression=algorithm)
        assert refused.code is Code.RESOURCE_EXHAUSTED
        assert refused.reply is None
        assert ending(channel, ENCODE, REQUEST).code is Code.OK
    ended = counts()
    assert (ended["OK"], ended["received"]) == (1, 1)
    assert counts.unanswered() == 0
