"""What every published graph must satisfy, when it is written and whenever it is verified."""

import re
from collections.abc import Iterable, Iterator, Sequence

import onnx

from vaeserve.v1 import model_pb2
from vaeserve_export.errors import VerifyError

RANDOM_OPERATORS = frozenset(
    {
        "Bernoulli",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)

_PRECISION_NAMES = {
    model_pb2.PRECISION_FLOAT32: "float32",
    model_pb2.PRECISION_FLOAT16: "float16",
    model_pb2.PRECISION_INT8: "int8",
}

_PATH = re.compile(rb"(?:/[\w.+-]+){2,}|[A-Za-z]:\\[\w.+-]+\\|\.py\b")


def check_graph(
    content: bytes, file: str, input_name: str, output_names: Sequence[str]
) -> onnx.ModelProto:
    """Parse a graph and check it.

    It must pass ONNX's own checker; take one input and give the outputs named, all float32 with a
    free first axis; hold its weights itself and nobody's paths; and use operators of the standard
    domain only. A row's outputs must be a function of that row: no random operator (noise inside a
    graph can be neither repeated nor split over batches), no Dropout, and no dynamic quantisation,
    whose scale is taken over the whole batch.

    Args:
        content: bytes of the file.
        file: its name, for messages.
        input_name: name of its input.
        output_names: names of its outputs, in order.

    Raises:
        VerifyError: the first of these that does not hold.
    """
    try:
        model = onnx.load_model_from_string(content)
        onnx.checker.check_model(model, full_check=True)
        _check_nodes(model, file)
        _check_values(model.graph.input, [input_name], f"{file}: inputs")
        _check_values(model.graph.output, output_names, f"{file}: outputs")
        _check_no_path(model, file)
    except VerifyError:
        raise
    except Exception as error:  # damaged bytes raise nearly every class, some only when looked at
        raise VerifyError(f"{file}: is no valid ONNX model: {_first_line(error)}") from error
    return model


def check_precision(
    models: Iterable[onnx.ModelProto], stated: "model_pb2.Precision.ValueType"
) -> None:
    """The graphs are of the precision stated, on which depends how exact they must be.

    Raises:
        VerifyError: they are of another one.
    """
    found = max(map(_precision, models))
    if found != (stated or model_pb2.PRECISION_FLOAT32):
        raise VerifyError(
            f"the graphs are {_PRECISION_NAMES[found]}, the manifest says "
            f"{_PRECISION_NAMES.get(stated, 'nothing')}"
        )


def _precision(model: onnx.ModelProto) -> "model_pb2.Precision.ValueType":
    graphs = list(all_graphs(model.graph))
    if any(node.op_type == "QuantizeLinear" for graph in graphs for node in graph.node):
        return model_pb2.PRECISION_INT8
    weights = [tensor.data_type for graph in graphs for tensor in graph.initializer]
    if onnx.TensorProto.FLOAT16 in weights:
        return model_pb2.PRECISION_FLOAT16
    return model_pb2.PRECISION_FLOAT32


def all_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and, below it, the graphs its nodes hold as branches and loop bodies."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    yield from all_graphs(inner)


def _check_nodes(model: onnx.ModelProto, file: str) -> None:
    if model.functions:
        raise VerifyError(f"{file}: defines functions; operators must be of the standard domain")
    for graph in all_graphs(model.graph):
        for node in graph.node:
            if node.domain not in {"", "ai.onnx"}:
                raise VerifyError(f"{file}: operator {node.domain}.{node.op_type} is not standard")
            if node.op_type in RANDOM_OPERATORS or node.op_type == "Dropout":
                raise VerifyError(f"{file}: holds the random operator {node.op_type}")
            if node.op_type == "DynamicQuantizeLinear":
                raise VerifyError(
                    f"{file}: is quantised dynamically: a row would depend on the rows beside it; "
                    "export it with --precision int8, whose scales are fixed"
                )
        for weights in graph.initializer:
            if weights.data_location == onnx.TensorProto.EXTERNAL:
                raise VerifyError(f"{file}: keeps {weights.name} in another file")


def _check_values(values: Iterable[onnx.ValueInfoProto], names: Sequence[str], what: str) -> None:
    values = list(values)
    found = [value.name for value in values]
    if found != list(names):
        raise VerifyError(f"{what} are {', '.join(found)} instead of {', '.join(names)}")
    for value in values:
        kind = value.type.tensor_type.elem_type
        if kind != onnx.TensorProto.FLOAT:
            found_type = onnx.TensorProto.DataType.Name(kind)
            raise VerifyError(f"{what}: {value.name} is {found_type}; it must be FLOAT")
        axes = value.type.tensor_type.shape.dim
        if not axes or not axes[0].dim_param:
            raise VerifyError(f"{what}: {value.name} has a fixed first axis; it must be the batch")


def _check_no_path(model: onnx.ModelProto, file: str) -> None:
    """Look for what reads like a path outside the weights, whose bytes are arbitrary."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for graph in all_graphs(bare.graph):
        attributes = [attribute for node in graph.node for attribute in node.attribute]
        constants = [attribute.t for attribute in attributes if attribute.HasField("t")]
        for weights in (*graph.initializer, *constants):
            weights.ClearField("raw_data")
            weights.ClearField("float_data")
    if found := _PATH.search(bare.SerializeToString()):
        text = found[0].decode(errors="replace")
        raise VerifyError(f"{file}: the graph holds a path: {text}")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
