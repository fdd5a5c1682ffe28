"""The one input of an Open Inference Protocol request as an array, with every check.

Raw contents, typed contents and shared memory are three ways for the same bytes.
"""

import numpy as np
import numpy.typing as npt

from vaeserve.inference import grpc_service_pb2 as pb
from vaeserve_server.errors import InvalidArgument, TooManyRows
from vaeserve_server.oip_models import OipModel, TensorSpec
from vaeserve_server.oip_places import BYTE_SIZE, read_place
from vaeserve_server.shared_memory import Regions

Array = npt.NDArray[np.generic]

FP32, UINT8 = "FP32", "UINT8"

_DTYPES: dict[str, np.dtype[np.generic]] = {FP32: np.dtype("<f4"), UINT8: np.dtype("u1")}
_TYPED_FIELDS = {1: "uint_contents", 4: "fp32_contents"}  # by bytes of an element
_SHOWN = 64  # characters of a name that a caller sent

# Of protobuf's encoding: the wire type of a packed field, and the longest varint with its tag.
_LENGTH_DELIMITED = 2
_MOST_VARINT_BYTES = 11


def read_input(request: pb.ModelInferRequest, model: OipModel, regions: Regions) -> Array:
    """The one input of a request.

    Returns:
        float32 or uint8 array [rows, ...shape], 1 <= rows <= max_rows.

    Raises:
        InvalidArgument: another input, type, shape or number of bytes.
        TooManyRows: more than max_rows.
        NotFound: no such region of shared memory.
    """
    spec = model.input
    if len(request.inputs) != 1:
        raise _invalid(
            f"{len(request.inputs)} inputs; model {model.name!r} takes one, {spec.name!r}", "inputs"
        )
    tensor = request.inputs[0]
    if tensor.name != spec.name:
        raise _invalid(
            f"no input {tensor.name[:_SHOWN]!r}; model {model.name!r} takes {spec.name!r}",
            "inputs[0].name",
        )
    datatype = tensor.datatype
    dtype = _DTYPES.get(datatype)
    if dtype is None or (datatype == UINT8 and not spec.picture):
        raise _invalid(
            f"{spec.name!r} of model {model.name!r} takes "
            f"{'FP32 or UINT8' if spec.picture else 'FP32'}, not {datatype[:_SHOWN]!r}",
            "inputs[0].datatype",
        )
    shape = _shape(tensor, spec, model)
    size = shape[0] * spec.size
    return np.ndarray(shape, dtype, _bytes(request, tensor, size, dtype, regions))


def _shape(
    tensor: pb.ModelInferRequest.InferInputTensor, spec: TensorSpec, model: OipModel
) -> tuple[int, ...]:
    # The count first: a message may hold millions of dimensions.
    fits = len(tensor.shape) == len(spec.shape) + 1
    shape = tuple(tensor.shape) if fits else ()
    if not fits or shape[1:] != spec.shape or shape[0] < 1:
        got = ", ".join(map(str, tensor.shape[: len(spec.shape) + 2]))
        row = ", ".join(map(str, spec.shape))
        raise _invalid(
            f"shape [{got}] does not fit; {spec.name!r} of model {model.name!r} is [rows, {row}] "
            "with at least one row",
            "inputs[0].shape",
        )
    if shape[0] > model.max_rows:
        raise TooManyRows(
            f"{shape[0]} rows; this model takes at most {model.max_rows} a request, split them",
            field="inputs[0].shape",
        )
    return shape


def _bytes(
    request: pb.ModelInferRequest,
    tensor: pb.ModelInferRequest.InferInputTensor,
    size: int,
    dtype: np.dtype[np.generic],
    regions: Regions,
) -> bytes | Array:
    """The input's elements as bytes, from the one place where they are."""
    place = read_place(tensor.parameters, "inputs[0]", regions) if tensor.parameters else None
    raw, typed = len(request.raw_input_contents), tensor.HasField("contents")
    if (place is not None) + bool(raw) + typed > 1 or raw > 1:
        raise _invalid(
            "the input has its elements once: in raw_input_contents, contents or shared memory",
            "inputs[0]",
        )
    expected = size * dtype.itemsize
    if place is not None:
        field = f"inputs[0].parameters[{BYTE_SIZE}]"
        _check_bytes(place.byte_size, expected, field)
        return place.region.read(place.offset, expected, field)
    if typed:
        return _typed(tensor.contents, size, dtype)
    data = request.raw_input_contents[0] if raw else b""
    _check_bytes(len(data), expected, "raw_input_contents[0]")
    return data


def _check_bytes(got: int, expected: int, field: str) -> None:
    if got != expected:
        raise _invalid(f"{got} bytes; the shape and datatype take {expected}", field)


def _typed(
    contents: pb.InferTensorContents, size: int, dtype: np.dtype[np.generic]
) -> bytes | Array:
    """The bytes of typed contents.

    Read from their serialised form: one packed field, so its elements are the message's last bytes.
    Going through Python's list of the field takes forty times as long.
    """
    name = _TYPED_FIELDS[dtype.itemsize]
    field = f"inputs[0].contents.{name}"
    count = len(getattr(contents, name))
    if count != size:
        raise _invalid(f"{count} elements; the shape takes {size}", field)
    data = contents.SerializeToString()
    length, begin = 0, 1
    for position, byte in enumerate(data[1:_MOST_VARINT_BYTES]):
        length |= (byte & 0x7F) << 7 * position
        if byte < 0x80:
            begin += position + 1
            break
    number = contents.DESCRIPTOR.fields_by_name[name].number
    if data[0] != number << 3 | _LENGTH_DELIMITED or begin + length != len(data):
        raise _invalid(f"only {name} goes with this datatype", "inputs[0].contents")
    packed = data[begin:]
    return packed if dtype.itemsize > 1 else _levels(np.frombuffer(packed, np.uint8), field)


def _levels(varints: npt.NDArray[np.uint8], field: str) -> Array:
    """Levels of packed varints: one byte below 128; to 255 the level's own byte, then a 1."""
    two_bytes = varints[:-1] >= 0x80
    if (two_bytes & (varints[1:] != 1)).any():
        raise _invalid("a level is above 255", field)
    first = np.ones(len(varints), np.bool_)
    np.logical_not(two_bytes, out=first[1:])
    return varints[first]


def _invalid(problem: str, field: str) -> InvalidArgument:
    return InvalidArgument(problem, reason="INVALID_TENSOR", field=field)
