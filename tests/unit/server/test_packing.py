"""Rows of many requests in one buffer: what one by one would give, and who is at fault."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays as any_array

from vaeserve.v1.noise import FIRST_ROW_LIMIT, Block, Stream, standard_normal
from vaeserve_server.call import Floats, Rows
from vaeserve_server.errors import ServiceError
from vaeserve_server.levels import model_values, picture_levels
from vaeserve_server.packing import Buffers, Packer, PriorDraws, Sent
from vaeserve_server.soundness import sound_levels

SHAPE = (2, 3)
LEVELS = picture_levels(1 / 255, 0.0)
COUNTS = st.integers(1, 6)


def of_shape(rows: int) -> tuple[int, ...]:
    return (rows, *SHAPE)


FLOATS = any_array(np.uint32, COUNTS.map(of_shape)).map(lambda bits: bits.view(np.float32))
PICTURES = any_array(np.uint8, COUNTS.map(of_shape))
DRAWS = st.builds(
    PriorDraws,
    st.builds(Block, st.integers(0, 2**64 - 1), st.integers(0, FIRST_ROW_LIMIT - 1), COUNTS),
    st.floats(0, 10, width=32),
)


def sent(part: Any) -> Sent:
    """Rows within a message, not where a processor would have them."""
    data = memoryview(b"?" + part.tobytes() + b"?")[1:-1]
    return Sent(data, part.shape, part.dtype)


ARRAYS = FLOATS | PICTURES


def packer(*, unit_interval: bool = False) -> Packer:
    buffers = Buffers(np.zeros(of_shape(256), np.float32))
    return Packer(buffers, field="x", unit_interval=unit_interval, levels=LEVELS)


def alone(part: Any) -> Floats:
    """What the rows of one request are, by the plain definitions."""
    if isinstance(part, Sent):
        return alone(part.array)
    if isinstance(part, PriorDraws):
        seed, first_row, rows = part.block
        eps = standard_normal(seed, Stream.PRIOR, first_row=first_row, rows=rows, size=6)
        z: Floats = eps[:, 0] * np.float32(part.temperature)
        return z.reshape(-1, *SHAPE)
    if part.dtype == np.uint8:
        levels: Floats = (part * (1 / 255)).astype(np.float32)
        return levels
    return np.asarray(part, np.float32)


@given(parts=st.lists(ARRAYS | ARRAYS.map(sent) | DRAWS, min_size=1, max_size=12))
def test_any_mixture_is_as_one_by_one(parts: list[Rows]) -> None:
    made = packer()
    made.pack([np.full(of_shape(256), np.nan, np.float32)])  # the buffer is used again
    packed = made.pack(parts)
    assert packed.dtype == np.float32
    expected = np.concatenate([alone(part) for part in parts])
    np.testing.assert_array_equal(packed.view(np.uint32), expected.view(np.uint32))


@given(parts=st.lists(PICTURES, min_size=1, max_size=12))
def test_levels_as_sent_are_kept_for_an_engine_that_takes_them(parts: list[Any]) -> None:
    values = np.zeros(of_shape(256), np.float32)
    buffers = Buffers(values, np.full(values.shape, 99, np.uint8))
    made = Packer(buffers, field="x", unit_interval=True, levels=LEVELS)
    packed = made.pack([sent(part) for part in parts])
    assert packed.dtype == np.uint8
    np.testing.assert_array_equal(packed, np.concatenate(parts))
    assert made.sound(packed)


@pytest.mark.parametrize(
    ("scale", "offset"), [(1 / 255, 0.0), (2 / 255, -1.0), (0.3, 0.0), (1 / 3, 0.0), (-0.1, 0.0)]
)
@given(parts=st.lists(PICTURES, min_size=1, max_size=12))
def test_levels_as_sent_become_the_bits_of_their_values(
    scale: float, offset: float, parts: list[Any]
) -> None:
    buffers = Buffers(np.zeros(of_shape(256), np.float32))
    made = Packer(buffers, field="x", levels=picture_levels(scale, offset))
    packed = made.pack([sent(part) for part in parts])
    expected = (np.concatenate(parts) * scale + offset).astype(np.float32)
    np.testing.assert_array_equal(packed.view(np.uint32), expected.view(np.uint32))


@given(
    parts=st.lists(FLOATS, min_size=1, max_size=12),
    unit_interval=st.booleans(),
    given_as=st.sampled_from((np.asarray, sent)),
)
def test_the_fault_is_found_where_it_is(
    parts: list[Floats], unit_interval: bool, given_as: Callable[[Floats], Rows]
) -> None:
    made = packer(unit_interval=unit_interval)
    low, high = (-1e-5, 1 + 1e-5) if unit_interval else (-np.inf, np.inf)
    is_sound = [
        bool(np.isfinite(part).all() and (part >= low).all() and (part <= high).all())
        for part in parts
    ]
    rows = [given_as(part) for part in parts]
    assert made.sound(made.pack(rows)) == all(is_sound)
    for part, asked, good in zip(parts, rows, is_sound, strict=True):
        problem = made.problem(asked)
        assert (problem is None) == good
        if problem is not None:
            finite = bool(np.isfinite(part).all())
            assert problem.reason == ("INVALID_TENSOR" if finite else "NOT_FINITE")


@pytest.mark.parametrize("engine_takes_levels", [False, True])
@pytest.mark.parametrize(
    ("scale", "offset"), [(1.0, 0.0), (0.1, -0.25), (-1 / 16, 1.0), (1 / 255, 0.5), (1 / 255, 2.0)]
)
@given(parts=st.lists(PICTURES, min_size=1, max_size=4), as_sent=st.booleans())
def test_levels_whose_values_are_out_of_range_are_their_senders_fault(
    engine_takes_levels: bool, scale: float, offset: float, parts: list[Any], as_sent: bool
) -> None:
    values = np.zeros(of_shape(64), np.float32)
    buffers = Buffers(values, np.zeros(values.shape, np.uint8) if engine_takes_levels else None)
    levels = picture_levels(scale, offset)
    made = Packer(buffers, field="x", unit_interval=True, levels=levels)
    parts.append(np.full(of_shape(1), 8, np.uint8))
    is_sound = [bool((np.abs(levels[part] - 0.5) <= 0.5 + 1e-6).all()) for part in parts]
    rows: list[Rows] = [sent(part) for part in parts] if as_sent else list(parts)
    assert made.sound(made.pack(rows)) == all(is_sound)
    for part, good in zip(rows, is_sound, strict=True):
        problem = made.problem(part)
        assert (problem is None) == good
        assert problem is None or problem.reason == "INVALID_TENSOR"


def test_the_levels_that_a_model_takes() -> None:
    assert sound_levels(LEVELS, unit_interval=True) == range(256)
    assert sound_levels(picture_levels(1.0, 0.0), unit_interval=True) == range(2)
    assert sound_levels(picture_levels(-1.0, 8.0), unit_interval=True) == range(7, 9)
    assert sound_levels(picture_levels(1.0, 2.0), unit_interval=True) == range(0)
    assert sound_levels(picture_levels(1.0, 2.0), unit_interval=False) == range(256)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_of_many_is_enough(value: float) -> None:
    rows = np.zeros(of_shape(200), np.float32)
    rows[137, 1, 2] = value
    assert not packer().sound(packer().pack([rows]))


def test_the_largest_floats_are_sound() -> None:
    largest = np.finfo(np.float32).max
    rows = np.full(of_shape(200), largest, np.float32)
    rows[::2] = -largest
    assert packer().sound(packer().pack([rows]))


def test_levels_of_a_model_without_pictures_are_a_bug() -> None:
    with pytest.raises(TypeError):
        model_values(np.zeros(of_shape(1), np.uint8), None)


def test_other_rows_are_a_bug_and_nobodys_fault() -> None:
    with pytest.raises(TypeError) as raised:
        packer().pack(["abc"])
    assert not isinstance(raised.value, ServiceError)


def test_every_level_is_the_float_nearest_to_its_fraction() -> None:
    exact = [np.float32(level / 255) for level in range(256)]
    np.testing.assert_array_equal(LEVELS, exact)
