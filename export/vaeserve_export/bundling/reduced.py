"""Graphs in less precision than they were trained in: float16, or int8 with fixed scales.

Inputs and outputs stay float32. Both are made by ONNX Runtime's own tools, which come with it.
"""

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import GraphProto
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.quant_utils import add_pre_process_metadata
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from vaeserve_export.bundling.onnx_graphs import plain_bytes
from vaeserve_export.errors import ExportError

RANGE_ROWS = 512
"""Rows that int8's ranges are set on, at most."""

_LAYERS = frozenset({"Gemm", "MatMul", "Conv", "ConvTranspose"})
_INT8_LAYERS = [
    "Gemm",
    "MatMul",
    "Conv",
]  # no int8 kernel transposes: it would be slower, not faster
_BATCH = 64


def half(content: bytes, name: str, *, whole_head: bool) -> bytes:
    """A graph in float16, but for its ends.

    What follows the last layer stays float32: a sigmoid rounded to 11 bits is 1 from a logit of 8
    on, and has forgotten how sure it was. So does that layer itself where `whole_head` says so, for
    an encoder: log_var goes through exp(), and the layer is small.

    Args:
        content: the graph in float32.
        name: of the graph.
        whole_head: keep the last layer too.
    """
    model = onnx.load_model_from_string(content)
    ends = _ends(model.graph, whole_head=whole_head)
    try:
        model = convert_float_to_float16(model, keep_io_types=True, node_block_list=ends)
    except Exception as error:  # it raises what it meets
        raise ExportError(f"{name}: cannot be made float16: {error}") from error
    OnnxModel.graph_topological_sort(model.graph)  # the converter adds its casts at the end
    return plain_bytes(model, name)


def int8(content: bytes, name: str, rows: npt.NDArray[np.float32]) -> bytes:
    """A graph whose layers take int8, with scales that are fixed here.

    Weights have a scale for each channel. A layer's inputs are quantised and its output is not: the
    next layer quantises it, behind the activation, and a graph's outputs stay exact. Activations
    are unsigned and weights have 7 bits, since processors with AVX2 alone saturate at 8: a bundle
    must not mean other numbers on another machine.

    Args:
        content: the graph in float32.
        name: of the graph.
        rows: inputs [rows, ...] whose activations set the ranges.
    """
    model = onnx.load_model_from_string(content)
    add_pre_process_metadata(model)  # or it advises to: there is nothing left to fold or fuse
    reader = _Rows(model.graph.input[0].name, rows)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        try:
            quantize_static(
                model,
                path,
                reader,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                reduce_range=True,
                op_types_to_quantize=_INT8_LAYERS,
                extra_options={"OpTypesToExcludeOutputQuantization": _INT8_LAYERS},
            )
        except Exception as error:  # it raises what it meets
            raise ExportError(f"{name}: cannot be made int8: {error}") from error
        return plain_bytes(onnx.load(path), name)


class _Rows(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime ships no types
    """Rows in batches, as the quantiser asks for them."""

    def __init__(self, input_name: str, rows: npt.NDArray[np.float32]) -> None:
        batches = [rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]
        self._batches = iter([{input_name: batch} for batch in batches])

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        return next(self._batches, None)


def _ends(graph: GraphProto, *, whole_head: bool) -> list[str]:
    """Names of the nodes between the last layers and the outputs."""
    makers = {output: node for node in graph.node for output in node.output}
    names: set[str] = set()
    pending = [value.name for value in graph.output]
    while pending:
        node = makers.get(pending.pop())
        if node is None or node.name in names:
            continue
        layer = node.op_type in _LAYERS
        if whole_head or not layer:
            names.add(node.name)
        if not layer:
            pending += node.input
    return sorted(names)
