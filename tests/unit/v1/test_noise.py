"""The noise is pinned by a second implementation, written from the papers in plain Python."""

import statistics
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from vaeserve.v1.noise import (
    FIRST_ROW_LIMIT,
    Block,
    Stream,
    reparameterise,
    standard_normal,
    standard_normal_blocks,
    uniform,
)

_MASK = (1 << 64) - 1


def philox(counter: int, key: tuple[int, int]) -> list[int]:
    """Philox4x64-10 on Python integers (Salmon et al. 2011): four words for one counter."""
    words = [(counter >> (64 * i)) & _MASK for i in range(4)]
    k0, k1 = key
    for _ in range(10):
        high0, low0 = divmod(0xD2E7470EE14C6C93 * words[0], 1 << 64)
        high1, low1 = divmod(0xCA5A826395121157 * words[2], 1 << 64)
        words = [high1 ^ words[1] ^ k0, low1, high0 ^ words[3] ^ k1, low0]
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & _MASK, (k1 + 0xBB67AE8584CAA73B) & _MASK
    return words


def reference(seed: int, stream: int, row: int, size: int, draw: int) -> list[float]:
    blocks = -(-size // 4)
    words = []
    for block in range(blocks):
        # numpy's generator counts on before it makes its first block.
        words += philox(((draw << 64) | (row * blocks + block)) + 1, (seed, stream))
    normal = statistics.NormalDist()
    return [normal.inv_cdf(((word >> 12) + 0.5) * 2.0**-52) for word in words[:size]]


def test_the_reference_is_philox() -> None:
    # Known answer of the authors' Random123 library.
    assert philox(0, (0, 0)) == [
        0x16554D9ECA36314C,
        0xDB20FE9D672D0FDC,
        0xD7E772CEE186176B,
        0x7E68B68AEC7BA23B,
    ]


@settings(max_examples=50)
@given(
    seed=st.integers(0, 2**64 - 1),
    stream=st.sampled_from(Stream),
    first_row=st.integers(0, 2**40 - 10),
    rows=st.integers(1, 3),
    size=st.integers(1, 9),
    draws=st.integers(1, 4),
)
def test_noise_is_what_the_papers_say(
    seed: int, stream: Stream, first_row: int, rows: int, size: int, draws: int
) -> None:
    eps = standard_normal(seed, stream, first_row=first_row, rows=rows, size=size, draws=draws)
    assert eps.dtype == np.float32
    assert eps.shape == (rows, draws, size)
    for row in range(rows):
        for draw in range(draws):
            expected = reference(seed, stream, first_row + row, size, draw)
            np.testing.assert_array_equal(eps[row, draw], np.array(expected).astype(np.float32))


@pytest.mark.parametrize("word", [0, 2**64 - 1])
def test_the_outermost_bits_are_the_outermost_values(
    monkeypatch: pytest.MonkeyPatch, word: int
) -> None:
    class Constant:
        def __init__(self, **_: object) -> None:
            pass

        def random_raw(self, count: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
            return np.full(count, word, np.uint64)

    monkeypatch.setattr(np.random, "Philox", Constant)
    eps = standard_normal(0, Stream.PRIOR, first_row=0, rows=1, size=1)
    assert abs(eps.item()) == pytest.approx(8.2095, abs=1e-4)
    assert (eps.item() > 0) == (word > 0)


@given(first=st.integers(0, 50), count=st.integers(1, 20), size=st.integers(1, 30))
def test_a_row_does_not_depend_on_the_rows_around_it(first: int, count: int, size: int) -> None:
    whole = standard_normal(7, Stream.PRIOR, first_row=0, rows=70, size=size)
    part = standard_normal(7, Stream.PRIOR, first_row=first, rows=count, size=size)
    np.testing.assert_array_equal(part, whole[first : first + count])


def test_rows_draws_streams_and_seeds_differ() -> None:
    values = [
        value
        for seed in (0, 1)
        for stream in Stream
        for value in standard_normal(seed, stream, first_row=0, rows=5, size=4, draws=3).ravel()
    ]
    assert len(set(values)) == len(values)


def test_it_is_standard_normal() -> None:
    eps = standard_normal(3, Stream.PRIOR, first_row=0, rows=20_000, size=20)[:, 0].astype(
        np.float64
    )
    error = 1 / np.sqrt(eps.size)
    assert abs(eps.mean()) < 5 * error
    assert abs(eps.var() - 1) < 5 * np.sqrt(2) * error
    assert abs((eps**3).mean()) < 5 * np.sqrt(15) * error
    assert abs((eps**4).mean() - 3) < 5 * np.sqrt(96) * error
    correlation = np.corrcoef(eps.T) - np.eye(20)
    assert np.abs(correlation).max() < 6 / np.sqrt(len(eps))


def test_reparameterisation() -> None:
    mu = np.array([[1.0, -2.0]], np.float32)
    log_var = np.log(np.array([[4.0, 0.25]], np.float32))
    eps = np.array([[1.0, -2.0]], np.float32)
    assert reparameterise(mu, log_var, eps) == pytest.approx(np.array([[3.0, -3.0]]))


@given(
    blocks=st.lists(
        st.builds(
            Block, st.integers(0, _MASK), st.integers(0, FIRST_ROW_LIMIT - 1), st.integers(1, 5)
        ),
        min_size=1,
        max_size=8,
    ),
    stream=st.sampled_from(Stream),
    size=st.integers(1, 9),
)
def test_many_blocks_are_the_same_bits_as_one_by_one(
    blocks: list[Block], stream: Stream, size: int
) -> None:
    together = standard_normal_blocks(blocks, stream, size=size)
    alone = [
        standard_normal(seed, stream, first_row=first_row, rows=rows, size=size)[:, 0]
        for seed, first_row, rows in blocks
    ]
    assert together.dtype == np.float32
    np.testing.assert_array_equal(together, np.concatenate(alone))


@given(draws=st.integers(1, 6), first=st.integers(0, 5))
def test_later_draws_continue_earlier_ones(draws: int, first: int) -> None:
    arguments: dict[str, Any] = {"first_row": 3, "rows": 4, "size": 5}
    whole = standard_normal(7, Stream.POSTERIOR, draws=first + draws, **arguments)
    part = standard_normal(7, Stream.POSTERIOR, draws=draws, first_draw=first, **arguments)
    np.testing.assert_array_equal(part, whole[:, first:])


@given(first=st.integers(0, FIRST_ROW_LIMIT - 80), skip=st.integers(0, 60))
def test_uniform_numbers_of_rows(first: int, skip: int) -> None:
    whole = uniform(7, Stream.COMPONENT, first_row=first, rows=70)
    part = uniform(7, Stream.COMPONENT, first_row=first + skip, rows=10)
    np.testing.assert_array_equal(part, whole[skip : skip + 10])


def test_uniform_numbers_are_uniform() -> None:
    values = uniform(2, Stream.COMPONENT, first_row=0, rows=50_000)
    assert 0 < values.min() < 1e-3
    assert 1 - 1e-3 < values.max() < 1
    assert abs(values.mean() - 0.5) < 5 * np.sqrt(1 / 12 / len(values))
    counts, _ = np.histogram(values, 20, (0, 1))
    assert np.abs(counts - 2500).max() < 5 * np.sqrt(2500)
