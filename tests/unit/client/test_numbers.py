"""Whole numbers among the arguments: numpy's do not wrap, and mistakes are found here."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from unit.client.scripted_model import SPACE, pictures
from unit.client.scripted_server import Script, serving
from vaeserve import Client, InvalidInput, Model, VersionChanged, _parts
from vaeserve.v1 import vae_service_pb2 as pb


@pytest.mark.parametrize("first_row", [np.uint8(250), np.uint16(65530), np.int64(250)])
def test_numpy_numbers_do_not_wrap_where_a_call_is_split(client: Client, first_row: Any) -> None:
    digits: Any = client.model("digits")
    x, plain = pictures(20), int(first_row)
    calls: list[Callable[[Any], Any]] = [
        lambda first: digits.sample(np.uint8(20), seed=1, first_row=first),
        lambda first: digits.encode(x, draws=np.int8(1), seed=1, first_row=first).draws,
        lambda first: digits.reconstruct(x, draw=True, seed=1, first_row=first),
    ]
    for call in calls:
        np.testing.assert_array_equal(call(first_row), call(plain))
    assert digits.interpolate(x[0], x[1], steps=np.uint8(3)).shape == (3, 2, 3)


@pytest.mark.parametrize(
    "call",
    [
        lambda digits: digits.sample(1, first_row=-1),
        lambda digits: digits.sample(1, first_row=2**64),
        lambda digits: digits.sample(1, first_row=2**40),
        lambda digits: digits.sample(1, first_row=1.5),
        lambda digits: digits.encode(pictures(1), first_row=-1),
        lambda digits: digits.reconstruct(pictures(1), first_row=2**64),
        lambda digits: digits.sample(0),
        lambda digits: digits.sample(3.0),
        lambda digits: digits.sample(1, seed=1.5),
        lambda digits: digits.encode(pictures(1), draws=-1),
        lambda digits: digits.encode(pictures(1), draws=2**40),
        lambda digits: digits.interpolate(pictures(1), pictures(1), steps=1),
        lambda digits: digits.interpolate(pictures(1), pictures(1), steps=2**32),
        lambda digits: digits.encode(pictures(1)).sample(1.5),
    ],
)
def test_numbers_out_of_range(
    client: Client, script: Script, call: Callable[[Model], object]
) -> None:
    with pytest.raises(InvalidInput, match="must be"):
        call(client.model("digits"))
    assert script.sent(pb.SampleRequest) == []


def test_ends_of_two_types_fit_their_messages(connect: Any) -> None:
    with serving(Script(max_rows=10_000, max_message_bytes=8192)) as script:
        floats = pictures(600)
        levels = np.rint(floats * 255).astype(np.uint8)
        digits = connect(script.address).model("digits")
        assert len(digits.interpolate(levels, floats, steps=2, dtype=np.uint8)) == 600
        sizes = [len(sent.start.data) // 6 for sent in script.sent(pb.InterpolateRequest)]
    assert max(sizes) == (8192 - 4096) // (6 + 24)


def test_parts_of_two_latent_spaces_are_no_silent_mixture() -> None:
    replies = [pb.SampleResponse(version=3, latent_space_id=space) for space in (SPACE, "other")]
    with pytest.raises(VersionChanged, match="different models"):
        _parts.one_version(replies)
    assert _parts.one_version([pb.DecodeResponse(version=3)] * 2) == 3
