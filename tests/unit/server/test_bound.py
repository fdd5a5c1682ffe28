"""Bound execution on the CPU: the code that GPUs run, with the host as the device."""

import gc
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given

from support.bound_bench import (
    BENCH,
    BUCKETS,
    DECODER,
    ENCODER,
    INFO,
    LATENT,
    LEVELS,
    PICTURE,
    ROWS,
    SEEDS,
    Bench,
    close,
    cpu_place,
    floats,
    plain,
)
from vaeserve_server.bound_engine import BoundSlot, LoadedGraph
from vaeserve_server.call import Outputs
from vaeserve_server.config import ServerConfig
from vaeserve_server.device_ends import Posterior
from vaeserve_server.device_turn import DeviceTurn
from vaeserve_server.engine import EngineLostError, EngineMemoryError
from vaeserve_server.levels import to_levels
from vaeserve_server.memory import HostMemory, OutputPool


@given(seed=SEEDS, rows=ROWS)
def test_both_graphs_are_what_they_are_unbound(seed: int, rows: int) -> None:
    x, z = floats(seed, rows, PICTURE), floats(seed, rows, LATENT)
    for got, wanted in zip(BENCH.encode.run(x), plain(ENCODER, x), strict=True):
        close(got, wanted)
    (x_hat,) = BENCH.decode.run(z)
    close(x_hat, plain(DECODER, z)[0])


@given(seed=SEEDS, rows=ROWS)
def test_a_rows_bits_depend_on_its_bucket_alone(seed: int, rows: int) -> None:
    """Whatever lies in the buffers from before, and whoever the neighbours are."""
    x = floats(seed, rows, PICTURE)
    first, _ = BENCH.encode.run(x)
    BENCH.encode.run(np.full((BUCKETS[-1], *PICTURE), np.nan, np.float32))
    others = floats(seed + 1, rows, PICTURE)
    others[-1] = x[-1]
    again, _ = BENCH.encode.run(others)
    np.testing.assert_array_equal(again[-1].view(np.uint32), first[-1].view(np.uint32))


@given(seed=SEEDS, rows=ROWS)
def test_levels_in_are_the_values_they_stand_for(seed: int, rows: int) -> None:
    levels = np.random.default_rng(seed).integers(0, 256, (rows, *PICTURE)).astype(np.uint8)
    for got, wanted in zip(BENCH.encode.run(levels), BENCH.encode.run(LEVELS[levels]), strict=True):
        np.testing.assert_array_equal(got, wanted)


@given(seed=SEEDS, rows=ROWS)
def test_levels_out_are_those_of_the_host(seed: int, rows: int) -> None:
    z = floats(seed, rows, LATENT)
    (x_hat,) = BENCH.decode.run(z)
    levels, witness = BENCH.decode.run(z, as_levels=True)
    assert levels.dtype == np.uint8
    np.testing.assert_array_equal(levels, to_levels(x_hat, INFO.preprocessing.scale, 0.0))
    np.testing.assert_array_equal(witness, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_levels_out_tell_which_rows_are_not_finite(bad: float) -> None:
    z = floats(0, 3, LATENT)
    z[1, 2] = bad
    _, witness = BENCH.decode.run(z, as_levels=True)
    assert np.isfinite(witness).tolist() == [True, False, True]


@given(rows=ROWS)
def test_buckets_are_the_least_that_hold_the_rows(rows: int) -> None:
    assert BENCH.encode.bucket(rows) == min(size for size in BUCKETS if size >= rows)


def test_outputs_stay_as_they_are_for_as_long_as_anybody_has_a_part_of_them() -> None:
    kept = []
    for seed in range(12):  # more than the pools have
        z = floats(seed, 5, LATENT)
        (x_hat,) = BENCH.decode.run(z)
        kept.append((x_hat[1:3], x_hat[1:3].copy()))
    for got, wanted in kept:
        np.testing.assert_array_equal(got, wanted)


def test_a_pool_lends_again_what_nobody_has_any_more() -> None:
    pool = OutputPool(HostMemory(), (4, 2), np.float32, 1)
    lent = pool.take(3)
    address = lent.ctypes.data
    part = lent[1:]
    del lent
    assert pool.take(4).ctypes.data != address
    del part
    gc.collect()
    assert pool.take(2).ctypes.data == address


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (
            "[ONNXRuntimeError] : 1 : FAIL : CUDA failure 2: out of memory ; GPU=0",
            EngineMemoryError,
        ),
        (
            "Available memory of 8388608 is smaller than requested bytes of 9437184",
            EngineMemoryError,
        ),
        ("CUDA failure 700: an illegal memory access was encountered ; GPU=0", EngineLostError),
        ("CUDA failure 719: unspecified launch failure", EngineLostError),
        ("Non-zero status code returned while running Add node", RuntimeError),
    ],
)
def test_a_failed_run_says_what_it_means(
    text: str, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError(text)

    bench = Bench()
    monkeypatch.setattr(ort.InferenceSession, "run_with_iobinding", fail)
    with pytest.raises(kind):
        bench.encode.run(floats(0, 1, PICTURE))


@pytest.mark.parametrize("own_thread", [False, True])
def test_one_batch_computes_at_a_time_and_knows_how_long_it_waited(own_thread: bool) -> None:
    """Two slots of a device: their copies overlap, their runs do not."""
    place = cpu_place(own_thread=own_thread)
    graph = LoadedGraph(ENCODER, INFO.encoder, place, buckets=BUCKETS, threads=1)
    slots = [
        BoundSlot(graph, Posterior(place.memory, BUCKETS[-1], LATENT), LEVELS) for _ in range(2)
    ]
    x = floats(1, 2, PICTURE)
    results: list[Outputs] = []
    computing, released = threading.Event(), threading.Event()

    def hold() -> None:
        computing.set()
        assert released.wait(30)

    holder = threading.Thread(target=place.turn.run, args=(hold,))
    holder.start()
    assert computing.wait(30)
    threads = [
        threading.Thread(target=lambda slot=slot: results.append(slot.run(x))) for slot in slots
    ]
    for thread in threads:
        thread.start()
    threads[0].join(0.2)
    assert not results
    released.set()
    for thread in (holder, *threads):
        thread.join(30)
    for got in results:
        close(got[0], plain(ENCODER, x)[0])
    assert len(results) == 2
    assert all(slot.waited_s > 0.1 for slot in slots)


@pytest.mark.parametrize("own_thread", [False, True])
def test_what_a_run_raises_leaves_the_turn_free(own_thread: bool) -> None:
    turn = DeviceTurn(own_thread=own_thread)

    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        turn.run(fail)
    ran: list[int] = []
    turn.run(lambda: ran.append(1))
    assert ran == [1]


@pytest.mark.parametrize(
    ("settings", "max_rows", "expected"),
    [
        ({}, 256, (1, 2, 4, 8, 16, 32, 64, 128, 256)),
        ({}, 85, (1, 2, 4, 8, 16, 32, 64, 85)),
        ({}, 1, (1,)),
        ({"buckets": (64, 4, 1024)}, 100, (4, 64, 100)),
        ({"deterministic": True}, 100, (100,)),
    ],
)
def test_the_last_bucket_is_the_limit(
    settings: dict[str, object], max_rows: int, expected: tuple[int, ...]
) -> None:
    make: Callable[..., ServerConfig] = ServerConfig
    assert make(repository=Path(), **settings).row_buckets(max_rows) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"buckets": (0, 4)}, "at least 1"),
        ({"buckets": (4,), "deterministic": True}, "one bucket"),
        ({"buckets": (4,), "execution": "plain"}, "of bound execution"),
        ({"deterministic": True, "execution": "plain"}, "of bound execution"),
        ({"execution": "fast"}, "must be one of auto, plain, bound"),
    ],
)
def test_options_that_do_not_go_together(settings: dict[str, object], message: str) -> None:
    make: Callable[..., ServerConfig] = ServerConfig
    with pytest.raises(ValueError, match=message):
        make(repository=Path(), **settings)


def test_the_committed_graphs_are_sound() -> None:
    folder = Path(__file__).parents[3] / "server" / "vaeserve_server" / "graphs"
    models = sorted(folder.glob("*.onnx"))
    assert [path.stem for path in models] == ["latents", "levels", "pictures"]
    for path in models:
        onnx.checker.check_model(onnx.load(path), full_check=True)
