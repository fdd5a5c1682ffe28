"""Typed contents are read from their serialised form: bit for bit what raw contents would be."""

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays

from support.oip import infer_request
from vaeserve.inference import grpc_service_pb2 as pb
from vaeserve_server.errors import InvalidArgument
from vaeserve_server.oip_models import OipModel, Part, TensorSpec
from vaeserve_server.oip_tensors import read_input
from vaeserve_server.shared_memory import Regions

REGIONS = Regions(enabled=False)


def model(columns: int) -> OipModel:
    x = TensorSpec("x", (columns,), picture=True)
    return OipModel("m", Part.WHOLE, cast("Any", None), "1", 256, x, (x,))


SHAPES = st.tuples(st.integers(1, 20), st.integers(1, 60))


@given(bits=SHAPES.flatmap(lambda shape: arrays(np.uint32, shape)))
def test_floats_of_any_bits(bits: np.ndarray[Any, np.dtype[np.uint32]]) -> None:
    values = bits.view(np.float32)
    request = infer_request("m", values)
    raw = read_input(request, model(values.shape[1]), REGIONS)
    # Python's floats would change the bits of a signalling NaN, so the field is written as bytes.
    size = np.array([values.nbytes & 0x7F | 0x80, values.nbytes >> 7], np.uint8).tobytes()
    if values.nbytes < 0x80:
        size = bytes([values.nbytes])
    del request.raw_input_contents[:]
    request.inputs[0].contents.MergeFromString(b"\x32" + size + values.tobytes())
    typed = read_input(request, model(values.shape[1]), REGIONS)
    assert raw.tobytes() == typed.tobytes() == values.tobytes()
    assert raw.shape == typed.shape == values.shape
    assert typed.flags.aligned


@given(levels=SHAPES.flatmap(lambda shape: arrays(np.uint8, shape)))
def test_levels(levels: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    typed = read_input(infer_request("m", levels, typed=True), model(levels.shape[1]), REGIONS)
    np.testing.assert_array_equal(typed, levels)
    assert typed.dtype == np.uint8


@given(
    levels=SHAPES.flatmap(lambda shape: arrays(np.uint8, shape)),
    wrong=st.integers(256, 2**32 - 1),
    where=st.integers(0),
)
def test_numbers_that_are_no_levels(
    levels: np.ndarray[Any, np.dtype[np.uint8]], wrong: int, where: int
) -> None:
    request = infer_request("m", levels, typed=True)
    request.inputs[0].contents.uint_contents[where % levels.size] = wrong
    with pytest.raises(InvalidArgument, match="255"):
        read_input(request, model(levels.shape[1]), REGIONS)


@given(
    other=st.sampled_from(
        [
            pb.InferTensorContents(bool_contents=[True]),
            pb.InferTensorContents(int_contents=[1]),
            pb.InferTensorContents(uint_contents=[1]),
            pb.InferTensorContents(fp64_contents=[1.0]),
            pb.InferTensorContents(bytes_contents=[b"abc"]),
        ]
    ),
    rows=st.integers(1, 200),
)
def test_another_field_beside_it(other: pb.InferTensorContents, rows: int) -> None:
    request = infer_request("m", np.zeros((rows, 3), np.float32), typed=True)
    request.inputs[0].contents.MergeFrom(other)
    with pytest.raises(InvalidArgument, match="only fp32_contents"):
        read_input(request, model(3), REGIONS)
