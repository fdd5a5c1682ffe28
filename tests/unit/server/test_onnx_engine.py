from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vaeserve.v1 import model_pb2
from vaeserve_server.devices import CPU, Device, choose_devices
from vaeserve_server.errors import StartupError
from vaeserve_server.onnx_engine import OnnxEngine

GRAPH = model_pb2.Graph(file="encoder.onnx", input_name="x", output_names=["y"])


def doubling(batch: str | int = "batch", weight: onnx.TensorProto | None = None) -> bytes:
    """A graph y = 2 x on rows of three."""
    weight = weight or numpy_helper.from_array(np.array([2.0], np.float32), "weight")
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "weight"], ["y"])],
        "doubling",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 3])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    data: bytes = model.SerializeToString()
    return data


def test_it_runs_any_number_of_rows() -> None:
    engine = OnnxEngine(doubling(), GRAPH, threads=1)
    assert (engine.provider, engine.row_shape) == (CPU, (3,))
    for count in (1, 2, 7):
        rows = np.random.default_rng(count).random((count, 3), np.float32)
        (outputs,) = engine.run(rows)
        np.testing.assert_array_equal(outputs, 2 * rows)
        assert engine.bucket(count) == count


def test_levels_of_a_batch_are_those_of_its_rows() -> None:
    preprocessing = model_pb2.Preprocessing(scale=2 / 255, offset=-1)
    engine = OnnxEngine(doubling(), GRAPH, threads=1, preprocessing=preprocessing)
    rows = np.random.default_rng(0).uniform(-1, 1, (64, 3)).astype(np.float32)  # some beyond 0..255
    broken = {3: np.nan, 7: np.inf, 11: -np.inf, 13: 3e38}  # twice that is infinite
    for row, value in broken.items():
        rows[row, 1] = value
    levels, witness = engine.run(rows, as_levels=True)
    assert levels.dtype == np.uint8
    assert (levels.shape, witness.shape) == ((64, 3), (64,))
    sound = [row for row in range(64) if row not in broken]
    assert np.flatnonzero(np.isnan(witness)).tolist() == sorted(broken)
    expected = np.clip(np.rint((2 * rows[sound].astype(np.float64) + 1) / (2 / 255)), 0, 255)
    np.testing.assert_array_equal(levels[sound], expected)
    for row in sound:
        alone, _ = engine.run(rows[row : row + 1], as_levels=True)
        np.testing.assert_array_equal(alone[0], levels[row])
    assert engine.run(rows)[0].dtype == np.float32
    without = OnnxEngine(doubling(), GRAPH, threads=1)
    assert without.run(rows, as_levels=True)[0].dtype == np.float32


@pytest.mark.parametrize(("threads", "expected"), [(0, 1), (1, 1), (2, 2)])
def test_a_small_graph_gets_one_thread_unless_told(threads: int, expected: int) -> None:
    assert OnnxEngine(doubling(), GRAPH, threads=threads).threads == expected


@pytest.mark.parametrize(
    ("data", "graph", "message"),
    [
        (b"no graph", GRAPH, "ONNX Runtime refuses it"),
        (doubling(batch=4), GRAPH, "dynamic in its first axis"),
        (
            doubling(),
            model_pb2.Graph(file="encoder.onnx", input_name="z", output_names=["y"]),
            "the manifest says z",
        ),
    ],
)
def test_an_unfit_graph_is_refused(data: bytes, graph: model_pb2.Graph, message: str) -> None:
    with pytest.raises(StartupError, match=message):
        OnnxEngine(data, graph, threads=1)


def test_weights_outside_the_file_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph could name any file of the machine as its weights, and decode it to a caller."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_bytes(np.array([42.0], np.float32).tobytes())
    weight = TensorProto(
        name="weight", dims=[1], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL
    )
    weight.external_data.add(key="location", value="secret")
    with pytest.raises(StartupError, match="ONNX Runtime refuses it"):
        OnnxEngine(doubling(weight=weight), GRAPH, threads=1)


def test_devices() -> None:
    assert choose_devices("cpu") == (Device(CPU),)
    for wrong in ("gpu", "cpu:1", "cuda:x", "auto:0", "cuda:", "cuda:0,0", "cuda:1,"):
        with pytest.raises(StartupError, match="use auto, cpu, cuda, cuda:N"):
            choose_devices(wrong)
