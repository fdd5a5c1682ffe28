"""Write the small ONNX graphs that run on the device beside a model's own; --check only compares.

    levels      uint8 levels -> model values, by a table of 256
    pictures    x_hat -> uint8 levels, and one number a row that is NaN where the row is not finite
    latents     posteriors, noise, weights, moves -> latents; see `vaeserve_server.chain`

The server does not import onnx, so they are files of its package.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OUT = Path(__file__).resolve().parent / "vaeserve_server" / "graphs"
_FLOAT, _UINT8, _INT32 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT32
_Value = tuple[str, int, Sequence[str | int]]


def graphs() -> dict[str, bytes]:
    """Serialised graphs by file name."""
    node = helper.make_node
    zero, largest, half = (
        numpy_helper.from_array(np.array(value, np.float32), name)
        for name, value in (("zero", 0.0), ("largest", 255.0), ("half", 0.5))
    )
    last = numpy_helper.from_array(np.array([1], np.int64), "last")
    return {
        "levels.onnx": _model(
            [
                node("Cast", ["levels"], ["places"], to=_INT32),
                node("Gather", ["table", "places"], ["values"]),
            ],
            [("levels", _UINT8, ["rows", "size"]), ("table", _FLOAT, [256])],
            [("values", _FLOAT, ["rows", "size"])],
            [],
        ),
        "pictures.onnx": _model(
            [
                node("Sub", ["x_hat", "offset"], ["above"]),
                node("Div", ["above", "scale"], ["steps"]),
                node("Round", ["steps"], ["rounded"]),
                node("Clip", ["rounded", "zero", "largest"], ["clipped"]),
                node("Cast", ["clipped"], ["levels"], to=_UINT8),
                # 0 times what is not finite is NaN, which no sum loses.
                node("Mul", ["x_hat", "zero"], ["nothing"]),
                node("ReduceSum", ["nothing", "last"], ["witness"], keepdims=0),
            ],
            [
                ("x_hat", _FLOAT, ["rows", "size"]),
                ("scale", _FLOAT, [1]),
                ("offset", _FLOAT, [1]),
            ],
            [("levels", _UINT8, ["rows", "size"]), ("witness", _FLOAT, ["rows"])],
            [zero, largest, last],
        ),
        "latents.onnx": _model(
            [
                node("Mul", ["log_var", "half"], ["log_std"]),
                node("Exp", ["log_std"], ["std"]),
                node("Mul", ["std", "eps"], ["product"]),
                # The mean is asked for by eps = 0, and must not be lost where sigma overflows.
                node("Equal", ["eps", "zero"], ["none"]),
                node("Where", ["none", "zero", "product"], ["noise"]),
                node("Add", ["mu", "noise"], ["drawn"]),
                node("Gather", ["drawn", "first"], ["from"]),
                node("Gather", ["drawn", "second"], ["to"]),
                node("Mul", ["from", "first_weight"], ["near"]),
                node("Mul", ["to", "second_weight"], ["far"]),
                node("Add", ["near", "far"], ["between"]),
                node("Add", ["between", "move"], ["z"]),
            ],
            [
                *((name, _FLOAT, ["encoded", "size"]) for name in ("mu", "log_var", "eps")),
                *((name, _INT32, ["rows"]) for name in ("first", "second")),
                ("first_weight", _FLOAT, ["rows", 1]),
                ("second_weight", _FLOAT, ["rows", 1]),
                ("move", _FLOAT, ["rows", "size"]),
            ],
            [("z", _FLOAT, ["rows", "size"])],
            [half, zero],
        ),
    }


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[_Value],
    outputs: list[_Value],
    constants: list[onnx.TensorProto],
) -> bytes:
    made = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString()
    return data


def main() -> int:
    """Write the graphs, or report drift with status 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    stale = 0
    for name, data in graphs().items():
        path = OUT / name
        if check and (not path.exists() or path.read_bytes() != data):
            sys.stderr.write(f"stale, run `make graphs`: {path}\n")
            stale = 1
        elif not check:
            path.write_bytes(data)
    return stale


if __name__ == "__main__":
    sys.exit(main())
