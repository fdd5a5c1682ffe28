"""Engines that run bound on the CPU, with small linear graphs."""

import numpy as np
import onnxruntime as ort
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from vaeserve.v1 import model_pb2
from vaeserve_server.bound_engine import BoundSlot, LoadedGraph, Place
from vaeserve_server.call import Array, Floats, Outputs
from vaeserve_server.chain import ChainSlot
from vaeserve_server.config import Tuning
from vaeserve_server.device_ends import Outlet, Posterior
from vaeserve_server.device_graphs import DeviceGraphs
from vaeserve_server.device_turn import DeviceTurn
from vaeserve_server.devices import CPU, Device
from vaeserve_server.levels import picture_levels
from vaeserve_server.memory import HostMemory

PICTURE = (1, 2, 3)
LATENT = (4,)
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
