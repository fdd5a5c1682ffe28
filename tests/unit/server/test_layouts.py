"""A message like an earlier one means what parsing it would have told."""

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays as any_array

from vaeserve.v1 import arrays, vae_service_pb2 as pb
from vaeserve_server.call import Graph, Handled, Outputs, Plain
from vaeserve_server.layouts import Layouts
from vaeserve_server.packing import AsLevels, Sent

SHAPE = (2, 3)
GRAPH = cast("Graph", object())
BITS = any_array(np.uint32, st.integers(1, 4).map(lambda rows: (rows, *SHAPE)))


def build(_: Outputs) -> bytes:
    return b""


def handle(data: bytes) -> Handled:
    request = pb.EncodeRequest.FromString(data)
    return Plain(GRAPH, arrays.rows_from_tensor(request.input, SHAPE), build)


def message(bits: np.ndarray[Any, np.dtype[np.uint32]], model: str = "m") -> bytes:
    x = bits.view(np.float32)
    return pb.EncodeRequest(model=model, input=arrays.to_tensor(x)).SerializeToString()


@given(messages=st.lists(BITS, max_size=8))
def test_rows_of_any_bits(messages: list[np.ndarray[Any, np.dtype[np.uint32]]]) -> None:
    layouts = Layouts()
    for bits in messages:
        data = message(bits)
        found = layouts.find(data)
        if found is None:
            plain = handle(data)
            assert isinstance(plain, Plain)
            layouts.learn(data, plain, handle)
            found = layouts.find(data)
        assert found is not None
        graph, rows, made = found
        assert graph is GRAPH
        assert made is build
        assert isinstance(rows, Sent)
        np.testing.assert_array_equal(rows.array.view(np.uint32), bits)


def test_what_is_wanted_of_the_outputs_is_kept() -> None:
    def for_levels(data: bytes) -> Handled:
        plain = cast("Plain", handle(data))
        return plain._replace(rows=AsLevels(plain.rows))

    layouts, bits = Layouts(), np.ones((2, *SHAPE), np.uint32)
    layouts.learn(message(bits), cast("Plain", for_levels(message(bits))), for_levels)
    found = layouts.find(message(bits + 1))
    assert found is not None
    _, rows, _ = found
    assert isinstance(rows, AsLevels)
    assert isinstance(rows.rows, Sent)
    np.testing.assert_array_equal(rows.rows.array.view(np.uint32), bits + 1)


def test_another_model_of_the_same_length_is_another_message() -> None:
    layouts, bits = Layouts(), np.ones((1, *SHAPE), np.uint32)
    data = message(bits)
    layouts.learn(data, cast("Plain", handle(data)), handle)
    assert layouts.find(message(bits)) is not None
    assert layouts.find(message(bits, model="n")) is None


def test_a_message_whose_rows_stand_elsewhere_too_harms_no_caller() -> None:
    # The model's name holds the array's bytes: inverted, they are no text, and no message.
    name = "123456781234567812345678"
    bits = np.frombuffer(name.encode(), np.uint32).reshape(1, *SHAPE)
    data = message(bits, model=name)
    layouts = Layouts()
    layouts.learn(data, cast("Plain", handle(data)), handle)
    assert layouts.find(data) is None


def test_bytes_that_mean_nothing_are_not_taken_for_the_rows() -> None:
    bits = np.arange(6, dtype=np.uint32).reshape(1, *SHAPE)

    def with_unknown_field(content: bytes) -> bytes:
        return b"\xfa\x01" + bytes([len(content)]) + content + message(bits)  # field 31

    data = with_unknown_field(bits.tobytes())
    layouts = Layouts()
    layouts.learn(data, cast("Plain", handle(data)), handle)
    assert layouts.find(with_unknown_field(bytes(24))) is None


def test_any_number_of_other_sizes_keeps_no_message_from_being_learnt() -> None:
    def of_size(number: int) -> bytes:
        return message(np.ones((1, *SHAPE), np.uint32), model="m" * number)

    layouts, parsed = Layouts(), 0

    def sent(number: int) -> None:
        nonlocal parsed
        data = of_size(number)
        if layouts.find(data) is None:
            layouts.learn(data, cast("Plain", handle(data)), handle)
            parsed += 1

    for number in range(1, 257):
        sent(number)
        assert layouts.find(of_size(number)) is not None
    for _ in range(100):  # one that came late
        sent(258)
    assert parsed <= 256 + 32
    for number in range(260, 460):  # many that come once turn few of the others out
        sent(number)
    known = [number for number in range(1, 257) if layouts.find(of_size(number)) is not None]
    assert 240 <= len(known) < 256
    assert layouts.find(of_size(258)) is not None


@pytest.mark.parametrize("size", [0, 1, 50])
def test_bytes_that_were_never_seen_are_not_found(size: int) -> None:
    assert Layouts().find(bytes(size)) is None
