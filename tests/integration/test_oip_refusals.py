"""What is wrong with a request, the Open Inference Protocol says."""

from typing import Any

import grpc
import numpy as np
import pytest

from support.failures import failure
from support.oip import infer_request, parameters
from vaeserve.inference import grpc_service_pb2 as pb
from vaeserve.inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub

Stub = GRPCInferenceServiceStub

X = np.zeros((2, 1, 8, 8), np.float32)
Z = np.zeros((2, 20), np.float32)
INVALID, RANGE = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE
MISSING, PRECONDITION = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION


def changed(model: str = "digits_encoder", **changes: Any) -> pb.ModelInferRequest:
    """A good request, with fields of it or of its one input set to something else."""
    made = infer_request(model, Z if model.endswith("_decoder") else X)
    for field, value in changes.items():
        target = made if field in pb.ModelInferRequest.DESCRIPTOR.fields_by_name else made.inputs[0]
        target.ClearField(field)  # type: ignore[arg-type]
        if isinstance(value, list):
            getattr(target, field).extend(value)
        elif isinstance(value, pb.InferTensorContents):
            made.inputs[0].contents.CopyFrom(value)
        else:
            setattr(target, field, value)
    return made


def options(model: str = "digits", **values: Any) -> pb.ModelInferRequest:
    made = changed(model)
    made.MergeFrom(pb.ModelInferRequest(parameters=parameters(values)))
    return made


def outputs(*names: str, **values: Any) -> pb.ModelInferRequest:
    made = changed()
    for name in names:
        made.outputs.add(name=name, parameters=parameters(values))
    return made


def in_memory(**values: Any) -> pb.ModelInferRequest:
    made = changed(raw_input_contents=[])
    tensor = pb.ModelInferRequest.InferInputTensor(parameters=parameters(values))
    made.inputs[0].MergeFrom(tensor)
    return made


def typed(contents: pb.InferTensorContents, **changes: Any) -> pb.ModelInferRequest:
    return changed(raw_input_contents=[], contents=contents, **changes)


VALUES = [0.0] * X.size
INPUT = changed().inputs[0]
CASES: dict[str, tuple[pb.ModelInferRequest, grpc.StatusCode, str, str | None]] = {
    "unknown model": (changed(model_name="nobody"), MISSING, "MODEL_NOT_FOUND", "model_name"),
    "a name of 200 kilobytes": (
        changed(model_name="\N{PILE OF POO}" * 50_000),
        MISSING,
        "MODEL_NOT_FOUND",
        "model_name",
    ),
    "unknown version": (
        changed(model_version="2"),
        MISSING,
        "VERSION_NOT_FOUND",
        "model_version",
    ),
    "no input": (changed(inputs=[]), INVALID, "INVALID_TENSOR", "inputs"),
    "two inputs": (changed(inputs=[INPUT, INPUT]), INVALID, "INVALID_TENSOR", "inputs"),
    "input of another name": (changed(name="z"), INVALID, "INVALID_TENSOR", "inputs[0].name"),
    "unknown datatype": (
        changed(datatype="FP64"),
        INVALID,
        "INVALID_TENSOR",
        "inputs[0].datatype",
    ),
    "levels as latents": (
        changed("digits_decoder", datatype="UINT8"),
        INVALID,
        "INVALID_TENSOR",
        "inputs[0].datatype",
    ),
    "row shape": (changed(shape=[2, 64]), INVALID, "INVALID_TENSOR", "inputs[0].shape"),
    "no rows": (changed(shape=[0, 1, 8, 8]), INVALID, "INVALID_TENSOR", "inputs[0].shape"),
    "negative rows": (changed(shape=[-2, 1, 8, 8]), INVALID, "INVALID_TENSOR", "inputs[0].shape"),
    "many dimensions": (
        changed(shape=[1] * 200_000),
        INVALID,
        "INVALID_TENSOR",
        "inputs[0].shape",
    ),
    "a million dimensions": (
        changed(shape=[1] * 1_000_000),
        INVALID,
        "MALFORMED_MESSAGE",
        "inputs.shape",
    ),
    "too many rows": (changed(shape=[257, 1, 8, 8]), RANGE, "TOO_MANY_ROWS", "inputs[0].shape"),
    "too few bytes": (
        changed(raw_input_contents=[b"123"]),
        INVALID,
        "INVALID_TENSOR",
        "raw_input_contents[0]",
    ),
    "no contents": (
        changed(raw_input_contents=[]),
        INVALID,
        "INVALID_TENSOR",
        "raw_input_contents[0]",
    ),
    "raw twice": (
        changed(raw_input_contents=[X.tobytes()] * 2),
        INVALID,
        "INVALID_TENSOR",
        "inputs[0]",
    ),
    "raw and typed": (
        changed(contents=pb.InferTensorContents(fp32_contents=VALUES)),
        INVALID,
        "INVALID_TENSOR",
        "inputs[0]",
    ),
    "typed: too few": (
        typed(pb.InferTensorContents(fp32_contents=VALUES[1:])),
        INVALID,
        "INVALID_TENSOR",
        "inputs[0].contents.fp32_contents",
    ),
    "typed: in another field": (
        typed(pb.InferTensorContents(fp64_contents=VALUES)),
        INVALID,
        "INVALID_TENSOR",
        "inputs[0].contents.fp32_contents",
    ),
    "typed: two fields": (
        typed(pb.InferTensorContents(fp32_contents=VALUES, fp64_contents=[1.0])),
        INVALID,
        "INVALID_TENSOR",
        "inputs[0].contents",
    ),
    "typed: a field before it": (
        typed(pb.InferTensorContents(fp32_contents=VALUES, bool_contents=[True])),
        INVALID,
        "INVALID_TENSOR",
        "inputs[0].contents",
    ),
    "typed: no level": (
        typed(pb.InferTensorContents(uint_contents=[256] * X.size), datatype="UINT8"),
        INVALID,
        "INVALID_TENSOR",
        "inputs[0].contents.uint_contents",
    ),
    "typed: a huge level": (
        typed(pb.InferTensorContents(uint_contents=[2**32 - 1] * X.size), datatype="UINT8"),
        INVALID,
        "INVALID_TENSOR",
        "inputs[0].contents.uint_contents",
    ),
    "unknown output": (outputs("x_hat"), INVALID, "INVALID_TENSOR", "outputs[0].name"),
    "an output twice": (outputs("mu", "mu"), INVALID, "INVALID_TENSOR", "outputs[1].name"),
    "many outputs": (outputs(*["mu"] * 40_000), INVALID, "INVALID_TENSOR", "outputs"),
    "a million outputs": (outputs(*["mu"] * 1_000_000), INVALID, "MALFORMED_MESSAGE", "outputs"),
    "classification": (
        outputs("mu", classification=3),
        INVALID,
        "INVALID_OPTION",
        "outputs[0].parameters",
    ),
    "a misspelt parameter": (options(sead=3), INVALID, "INVALID_OPTION", "parameters[sead]"),
    "another part's parameter": (
        options("digits_encoder", draw=True),
        INVALID,
        "INVALID_OPTION",
        "parameters[draw]",
    ),
    "a seed without a draw": (options(seed=3), INVALID, "INVALID_OPTION", "parameters[seed]"),
    "a seed of letters": (
        options(draw=True, seed="3"),
        INVALID,
        "INVALID_OPTION",
        "parameters[seed]",
    ),
    "the last row": (
        options(draw=True, first_row=2**40 - 1),
        INVALID,
        "INVALID_OPTION",
        "first_row",
    ),
    "a negative seed": (
        options(draw=True, seed=-3),
        INVALID,
        "INVALID_OPTION",
        "parameters[seed]",
    ),
    "a number for a draw": (options(draw=1), INVALID, "INVALID_OPTION", "parameters[draw]"),
    "a hot draw": (
        options(draw=True, temperature=10.5),
        INVALID,
        "INVALID_OPTION",
        "parameters[temperature]",
    ),
    "NaN temperature": (
        options(draw=True, temperature=np.nan),
        INVALID,
        "INVALID_OPTION",
        "parameters[temperature]",
    ),
    "unknown datatype out": (
        options(x_hat_datatype="FP16"),
        INVALID,
        "INVALID_OPTION",
        "parameters[x_hat_datatype]",
    ),
    "another latent space": (
        options("digits_decoder", latent_space_id="0" * 32),
        PRECONDITION,
        "LATENT_SPACE_MISMATCH",
        None,
    ),
    "a region nobody registered": (
        in_memory(shared_memory_region="r", shared_memory_byte_size=512),
        MISSING,
        "REGION_NOT_FOUND",
        "inputs[0].parameters[shared_memory_region]",
    ),
    "a region without a size": (
        in_memory(shared_memory_region="r"),
        INVALID,
        "INVALID_OPTION",
        "inputs[0].parameters",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_requests(oip: Stub, case: str) -> None:
    bad, *expected = CASES[case]
    *answer, message = failure(lambda: oip.ModelInfer(bad, timeout=10))
    assert answer == expected
    assert len(message.encode()) <= 1024
    assert "Traceback" not in message
    oip.ModelInfer(changed(), timeout=10)


@pytest.mark.parametrize(
    ("model", "values", "reason"),
    [
        ("digits_encoder", np.full_like(X, np.nan), "NOT_FINITE"),
        ("digits", np.full_like(X, np.inf), "NOT_FINITE"),
        ("digits_decoder", np.full_like(Z, np.nan), "NOT_FINITE"),
        ("digits_encoder", np.full_like(X, 255.0), "INVALID_TENSOR"),
        ("vectors", np.full((1, 6), 3e38, np.float32), "NOT_FINITE"),
    ],
)
def test_values_that_no_model_takes(oip: Stub, model: str, values: Any, reason: str) -> None:
    bad = infer_request(model, values)
    code, got, _, _ = failure(lambda: oip.ModelInfer(bad, timeout=10))
    assert (code, got) == (INVALID, reason)


def test_bytes_that_are_no_message(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        call: Any = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        code, reason, _, _ = failure(lambda: call(b"\xff" * 20, timeout=10))
    assert (code, reason) == (INVALID, "MALFORMED_MESSAGE")
