"""A server on CUDA, and the bundles that it serves; without a CUDA device all of it is skipped."""

import os
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from support.servers import ServerProcess, server_process
from vaeserve import Client

_CUDA = "CUDAExecutionProvider"


@pytest.fixture(scope="session")
def device() -> str:
    """As `--device` takes it; VAESERVE_GPU_DEVICE names another than the first."""
    wanted = os.environ.get("VAESERVE_GPU_DEVICE", "cuda")
    if wanted == "cpu" or _CUDA not in ort.get_available_providers():
        pytest.skip(f"ONNX Runtime has no CUDA device: it has {ort.get_available_providers()}")
    ort.preload_dlls()
    shape = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Exp", ["x"], ["y"])], "one", shape[:1], shape[1:])
    model: onnx.ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10
    )
    options = {"device_id": wanted.partition(":")[2] or "0"}
    session = ort.InferenceSession(model.SerializeToString(), providers=[(_CUDA, options)])
    if session.get_providers()[0] != _CUDA:
        pytest.skip("ONNX Runtime has no CUDA device: its CUDA provider does not start")
    return wanted


@pytest.fixture(scope="session")
def server(device: str, repository: Path) -> Iterator[ServerProcess]:
    """A ready server with `digits`, `rgb` and `vectors`."""
    with server_process(repository, "--device", device) as running:
        running.wait_for("ready")
        yield running


@pytest.fixture(scope="session")
def cuda(server: ServerProcess) -> Iterator[Client]:
    """The only client of that server: its requests are batches by themselves."""
    with Client(server.records[-1]["address"]) as connected:
        yield connected
