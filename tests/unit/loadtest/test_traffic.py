"""Which requests of a mix are sent, and what a file must hold to be sent."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from unit.client.scripted_server import Script, serving
from unit.loadtest.loads import load
from vaeserve.v1 import arrays, vae_service_pb2 as pb
from vaeserve_loadtest import Load, Part, runner
from vaeserve_loadtest.traffic import parts_drawn


def mixed(*shares: float, seed: int = 0) -> Load:
    parts = tuple(Part("encode", rows, share) for rows, share in enumerate(shares, 1))
    return Load(address="", model="", rate=1.0, mix=parts, seed=seed)


@pytest.mark.parametrize("rare", [0.05, 0.01, 0.001, 0.0001])
@pytest.mark.parametrize("seed", range(3))
def test_rare_parts_of_a_mix_have_their_share(rare: float, seed: int) -> None:
    part_of = parts_drawn(mixed(1 - rare, rare, seed=seed))
    requests = 200_000
    sent = sum(map(part_of, range(requests)))
    # Independent draws: four standard deviations.
    assert sent == pytest.approx(requests * rare, abs=4 * np.sqrt(requests * rare))


@given(st.lists(st.integers(0, 10**9), max_size=20), st.integers(0, 2**70))
def test_every_process_draws_the_same_parts(numbers: list[int], seed: int) -> None:
    shares = (0.2, 0.5, 0.3)
    one, other = parts_drawn(mixed(*shares, seed=seed)), parts_drawn(mixed(*shares, seed=seed))
    drawn = [one(number) for number in numbers]
    assert [other(number) for number in reversed(numbers)] == drawn[::-1]
    assert {0, 1, 2} >= set(drawn)


def test_draws_do_not_repeat_themselves() -> None:
    part_of = parts_drawn(mixed(0.5, 0.5))
    sent = np.array([part_of(number) for number in range(40_000)])
    for period in range(1, 20_000):
        same = (sent[:-period] == sent[period:]).mean()
        assert 0.4 < same < 0.6, f"all repeat after {period} requests"


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ((0.6, 0.4), "60% encode, 40% encode@2"),
        ((0.9999, 0.0001), "99.99% encode, 0.01% encode@2"),
        ((2, 1), "66.6667% encode, 33.3333% encode@2"),
    ],
)
def test_small_shares_can_be_read(shares: tuple[float, ...], words: str) -> None:
    assert mixed(*shares).mixed == words


def test_arrays_that_are_no_rows_are_passed_over(script: Script, tmp_path: Path) -> None:
    rows = np.arange(3 * 6, dtype=np.uint8).reshape(3, 2, 3)
    file = tmp_path / "rows.npz"
    np.savez(file, level=np.float32(255), of_other_type=rows.astype(np.int16), images=rows)
    runner.run(load(script, concurrency=1, data=file, duration_s=0.05, warmup_s=0.0))
    first, *_ = script.sent(pb.EncodeRequest)
    np.testing.assert_array_equal(arrays.from_tensor(first.input), rows[1:2])


@pytest.mark.parametrize("dtype", [np.uint16, np.int64, np.complex64])
def test_rows_that_the_client_refuses_are_refused_before_the_run(
    script: Script, tmp_path: Path, dtype: Any
) -> None:
    np.save(tmp_path / "rows.npy", np.full((5, 2, 3), 7, dtype))
    with pytest.raises(ValueError, match=rf"holds {np.dtype(dtype)} \[5, 2, 3\].*uint8 levels"):
        runner.run(load(script, concurrency=1, data=tmp_path / "rows.npy"))
    assert script.sent(pb.EncodeRequest) == []


def test_levels_for_a_model_without_them_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.zeros((5, 2, 3), np.uint8))
    with (
        serving(Script(levels=False)) as script,
        pytest.raises(ValueError, match=r"takes rows of \[2, 3\], floats$"),
    ):
        runner.run(load(script, concurrency=1, data=tmp_path / "rows.npy"))
