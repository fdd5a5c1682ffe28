"""Bound execution on the CPU: the code that GPUs run, with the host as the device."""

import gc
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, strategies as st
from onnx import TensorProto, helper, numpy_helper

from vaeserve.v1 import model_pb2, paths
from vaeserve.v1.noise import reparameterise
from vaeserve_server.bound_engine import BoundSlot, LoadedGraph, Place
from vaeserve_server.call import Array, Floats, Outputs
from vaeserve_server.chain import ChainSlot
from vaeserve_server.chaining import Chained, each_once, straight_paths
from vaeserve_server.config import ServerConfig, Tuning
from vaeserve_server.device_ends import Outlet, Posterior
from vaeserve_server.device_graphs import DeviceGraphs
from vaeserve_server.device_turn import DeviceTurn
from vaeserve_server.devices import CPU, Device
from vaeserve_server.engine import EngineLostError, EngineMemoryError
from vaeserve_server.levels import picture_levels, to_levels
from vaeserve_server.memory import HostMemory, OutputPool

PICTURE, LATENT = (1, 2, 3), (4,)
INFO = model_pb2.ModelInfo(
    input_shape=PICTURE,
    latent_shape=LATENT,
    preprocessing=model_pb2.Preprocessing(scale=1 / 255),
    encoder=model_pb2.Graph(file="encoder.onnx", input_name="x", output_names=["mu", "log_var"]),
    decoder=model_pb2.Graph(file="decoder.onnx", input_name="z", output_names=["x_hat"]),
)
LEVELS = picture_levels(1 / 255, 0.0)
BUCKETS = (1, 2, 4, 8, 11)
ROWS = st.integers(1, BUCKETS[-1])
SEEDS = st.integers(0, 2**32 - 1)


def _graph(name: str, shapes: tuple[tuple[int, ...], tuple[int, ...]], outputs: list[str]) -> bytes:
    """Linear maps of flattened rows, one an output."""
    (source, target), generator = shapes, np.random.default_rng(7)
    nodes = [helper.make_node("Flatten", ["in"], ["flat"])]
    weights = [numpy_helper.from_array(np.array([-1, *target], np.int64), "shape")]
    for output in outputs:
        weight = generator.normal(size=(np.prod(source), np.prod(target))).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"{output}_weight"))
        nodes += [
            helper.make_node("MatMul", ["flat", f"{output}_weight"], [f"{output}_flat"]),
            helper.make_node("Reshape", [f"{output}_flat", "shape"], [output]),
        ]
    nodes[0].input[0] = name
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *source])],
        [
            helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", *target])
            for output in outputs
        ],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    data: bytes = model.SerializeToString()
    return data


ENCODER = _graph("x", (PICTURE, LATENT), ["mu", "log_var"])
DECODER = _graph("z", (LATENT, PICTURE), ["x_hat"])


def plain(model: bytes, rows: Floats) -> list[Floats]:
    """What a session makes of rows, one at a time: in a batch, products may round otherwise."""
    session = ort.InferenceSession(model, providers=[CPU])
    (name,) = (entry.name for entry in session.get_inputs())
    parts = [session.run(None, {name: row[None]}) for row in rows]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def cpu_place(*, own_thread: bool = False) -> Place:
    turn = DeviceTurn(own_thread=own_thread)
    return Place(Device(CPU), HostMemory(), Tuning(), DeviceGraphs(Device(CPU)), turn)


class Bench:
    """One slot of each kind on the CPU."""

    def __init__(self) -> None:
        place = cpu_place()
        self.encoder, self.decoder = (
            LoadedGraph(model, graph, place, buckets=BUCKETS, threads=1)
            for model, graph in ((ENCODER, INFO.encoder), (DECODER, INFO.decoder))
        )
        memory, limit = place.memory, BUCKETS[-1]
        self.encode = BoundSlot(self.encoder, Posterior(memory, limit, LATENT), LEVELS)
        pictures = Outlet(memory, place.graphs, limit, PICTURE, INFO.preprocessing)
        self.decode = BoundSlot(self.decoder, pictures)
        self.posteriors: list[Outputs] = []
        self.chain = ChainSlot(
            self.encoder,
            self.decoder,
            INFO,
            levels=LEVELS,
            unit_interval=False,
            encoded=self.posteriors.append,
        )


BENCH = Bench()


def floats(seed: int, rows: int, shape: tuple[int, ...]) -> Floats:
    return np.random.default_rng(seed).normal(size=(rows, *shape)).astype(np.float32)


def close(got: Array, wanted: Array) -> None:
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


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


@st.composite
def chained(draw: st.DrawFn) -> Chained:
    """A reconstruction, an edit or paths, of values or of levels."""
    generator = np.random.default_rng(draw(SEEDS))
    pairs = draw(st.integers(1, 2))
    count = 2 * pairs
    x: Array = generator.normal(size=(count, *PICTURE)).astype(np.float32)
    if draw(st.booleans()):
        x = generator.integers(0, 256, x.shape).astype(np.uint8)
    kind = draw(st.sampled_from(["mean", "draw", "edit", "paths"]))
    size = np.prod(LATENT)
    if kind == "paths":
        return straight_paths(x, draw(st.integers(2, 5)))
    if kind == "edit":
        return each_once(x, move=generator.normal(size=size).astype(np.float32))
    eps = generator.normal(size=(count, size)).astype(np.float32) if kind == "draw" else None
    return each_once(x, eps=eps)


def alone(part: Chained) -> tuple[Floats, Floats]:
    """Latents and decoded means of one request, step by step on the host."""
    x = LEVELS[part.x] if part.x.dtype == np.uint8 else part.x
    mu, log_var = plain(ENCODER, x)
    drawn = mu if part.eps is None else reparameterise(mu, log_var, part.eps)
    near, far = drawn[part.first], drawn[part.second]
    z = part.first_weight[:, None] * near + part.second_weight[:, None] * far
    z = z if part.move is None else z + part.move
    return z, plain(DECODER, z)[0]


@given(parts=st.lists(chained(), min_size=1, max_size=4))
def test_a_chain_is_its_steps(parts: list[Chained]) -> None:
    while sum(map(len, parts)) > BUCKETS[-1]:
        parts.pop()
    if not parts:
        return
    BENCH.posteriors.clear()
    z, x_hat = BENCH.chain.run(BENCH.chain.pack(parts), as_levels=False)
    wanted = [alone(part) for part in parts]
    close(z, np.concatenate([each for each, _ in wanted]))
    np.testing.assert_allclose(
        x_hat, np.concatenate([each for _, each in wanted]), rtol=1e-4, atol=1e-4
    )
    ((mu, log_var),) = BENCH.posteriors
    assert len(mu) == len(log_var) == sum(len(part.x) for part in parts)


def test_a_straight_path_is_the_lerp_of_its_ends() -> None:
    x = floats(3, 4, PICTURE)
    (z, _) = BENCH.chain.run(BENCH.chain.pack([straight_paths(x, 5)]), as_levels=False)
    mu, _ = plain(ENCODER, x)
    close(z.reshape(2, 5, -1), paths.lerp(mu[:2], mu[2:], 5))


def test_a_chain_refuses_what_an_encoder_refuses() -> None:
    bad = each_once(np.full((1, *PICTURE), np.nan, np.float32))
    good = each_once(floats(0, 1, PICTURE))
    assert not BENCH.chain.sound(BENCH.chain.pack([good, bad]))
    assert BENCH.chain.problem(good) is None
    assert BENCH.chain.problem(bad) is not None


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


def test_the_mean_is_not_lost_where_sigma_overflows() -> None:
    session = DeviceGraphs(Device(CPU)).latents
    numbers = {"first": np.zeros(1, np.int32), "second": np.zeros(1, np.int32)}
    weights = {"first_weight": np.ones((1, 1)), "second_weight": np.zeros((1, 1))}
    rows = {
        "mu": np.full((1, 2), 3.0),
        "log_var": np.full((1, 2), 200.0),
        "eps": np.zeros((1, 2)),
        "move": np.zeros((1, 2)),
    }
    given = {name: value.astype(np.float32) for name, value in (rows | weights).items()}
    (z,) = session.run(["z"], given | numbers)
    assert z.tolist() == [[3.0, 3.0]]


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
