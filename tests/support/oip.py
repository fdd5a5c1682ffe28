"""Requests of the Open Inference Protocol, made by hand."""

from typing import Any

import numpy as np
import numpy.typing as npt

from vaeserve.inference import grpc_service_pb2 as pb

Array = npt.NDArray[Any]

DATATYPES: dict[np.dtype[Any], str] = {np.dtype(np.float32): "FP32", np.dtype(np.uint8): "UINT8"}


def parameters(values: dict[str, Any]) -> dict[str, pb.InferParameter]:
    """Python values as the protocol's parameters."""
    fields = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}
    return {
        name: pb.InferParameter(**{fields[type(value)]: value}) for name, value in values.items()
    }


def infer_request(
    model: str, values: Array, *, typed: bool = False, options: dict[str, Any] | None = None
) -> pb.ModelInferRequest:
    """A request with one input, raw or typed."""
    datatype = DATATYPES[values.dtype]
    request = pb.ModelInferRequest(model_name=model, parameters=parameters(options or {}))
    tensor = request.inputs.add(
        name="z" if model.endswith("_decoder") else "x", datatype=datatype, shape=values.shape
    )
    if not typed:
        request.raw_input_contents.append(values.tobytes())
    elif datatype == "FP32":
        tensor.contents.fp32_contents.extend(values.ravel().tolist())
    else:
        tensor.contents.uint_contents.extend(values.ravel().tolist())
    return request


def outputs_of(reply: pb.ModelInferResponse) -> dict[str, Array]:
    """Outputs by name."""
    dtypes = {name: dtype for dtype, name in DATATYPES.items()}
    return {
        output.name: np.frombuffer(raw, dtypes[output.datatype]).reshape(tuple(output.shape))
        for output, raw in zip(reply.outputs, reply.raw_output_contents, strict=True)
    }
