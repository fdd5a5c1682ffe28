"""Verification finds what is wrong with a graph, and names it."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from vaeserve.v1 import bundle
from vaeserve_export.bundling.graph_checks import check_graph
from vaeserve_export.bundling.verify import verify
from vaeserve_export.errors import VerifyError

Replace = Callable[[str, bytes], None]


def decoder(
    *nodes: onnx.NodeProto,
    batch: str | int = "batch",
    output: str = "x_hat",
    kind: int = TensorProto.FLOAT,
) -> bytes:
    """A graph in place of the digits' decoder."""
    z = helper.make_tensor_value_info("z", kind, [batch, 20])
    x_hat = helper.make_tensor_value_info(output, kind, [batch, 20])
    graph = helper.make_graph(list(nodes), "decoder", [z], [x_hat])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.example", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def test_random_operator(folder: Path, replace_file: Replace, refused: Callable[..., str]) -> None:
    noise = helper.make_node("RandomNormalLike", ["z"], ["x_hat"])
    replace_file(bundle.DECODER, decoder(noise))
    line = refused("verify", folder)
    assert "decoder.onnx: holds the random operator RandomNormalLike" in line


def test_random_operator_inside_a_branch(folder: Path, replace_file: Replace) -> None:
    def branch(name: str, node: onnx.NodeProto) -> onnx.GraphProto:
        value = helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)
        return helper.make_graph([node], name, [], [value])

    yes = helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("b", 9, [], [1]))
    choice = helper.make_node(
        "If",
        ["yes"],
        ["x_hat"],
        then_branch=branch("then", helper.make_node("RandomUniformLike", ["z"], ["a"])),
        else_branch=branch("else", helper.make_node("Identity", ["z"], ["b"])),
    )
    replace_file(bundle.DECODER, decoder(yes, choice))
    with pytest.raises(VerifyError, match="random operator RandomUniformLike"):
        verify(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "decoder.onnx: is no valid ONNX model"),
        (b"not a protobuf", "decoder.onnx: is no valid ONNX model"),
        (
            decoder(helper.make_node("Dropout", ["z"], ["x_hat"])),
            "holds the random operator Dropout",
        ),
        (
            decoder(
                helper.make_node("DynamicQuantizeLinear", ["z"], ["levels", "scale", "zero"]),
                helper.make_node("DequantizeLinear", ["levels", "scale", "zero"], ["x_hat"]),
            ),
            "is quantised dynamically: a row would depend on the rows beside it",
        ),
        (
            decoder(helper.make_node("Sharpen", ["z"], ["x_hat"], domain="com.example")),
            r"operator com\.example\.Sharpen is not standard",
        ),
        (
            decoder(helper.make_node("Identity", ["z"], ["y"]), output="y"),
            "outputs are y instead of x_hat",
        ),
        (
            decoder(helper.make_node("Identity", ["z"], ["x_hat"]), batch=2),
            "z has a fixed first axis",
        ),
        (
            decoder(helper.make_node("Identity", ["z"], ["x_hat"]), kind=TensorProto.DOUBLE),
            "z is DOUBLE; it must be FLOAT",
        ),
        (
            decoder(helper.make_node("Identity", ["z"], ["x_hat"], "", "/home/me/model")),
            "the graph holds a path: /home/me/model",
        ),
        (
            decoder(helper.make_node("Identity", ["z"], ["x_hat"])),
            r"x_hat has shape \[256, 20\], not \[256, 1, 8, 8\]",
        ),
    ],
)
def test_bad_graph(folder: Path, replace_file: Replace, content: bytes, message: str) -> None:
    replace_file(bundle.DECODER, content)
    with pytest.raises(VerifyError, match=message):
        verify(folder)


def test_weights_in_another_file(folder: Path, replace_file: Replace) -> None:
    model = onnx.load_model_from_string((folder / bundle.DECODER).read_bytes())
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="../weights.bin")
    replace_file(bundle.DECODER, model.SerializeToString())
    with pytest.raises(VerifyError, match=r"decoder\.onnx: "):
        verify(folder)


def test_mutated_graphs_never_end_in_a_traceback(folder: Path) -> None:
    """The last bytes hold names and types, whose damage shows only when they are looked at."""
    sound = (folder / bundle.ENCODER).read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(300):
        content = bytearray(sound)
        for back in rng.integers(1, 1200, size=rng.integers(1, 5)):
            content[-back] = rng.integers(256)
        with suppress(VerifyError):
            check_graph(bytes(content), "encoder", "x", ("mu", "log_var"))
