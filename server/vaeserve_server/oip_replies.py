"""The outputs that an Open Inference Protocol request asks for, and the reply with them."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from vaeserve.inference import grpc_service_pb2 as pb
from vaeserve_server.errors import InvalidArgument
from vaeserve_server.oip_models import OipModel
from vaeserve_server.oip_places import BYTE_SIZE, OFFSET, REGION, Place, read_place
from vaeserve_server.oip_tensors import FP32, UINT8, Array
from vaeserve_server.shared_memory import Regions

_DATATYPES: dict[np.dtype[np.generic], str] = {
    np.dtype(np.float32): FP32,
    np.dtype(np.uint8): UINT8,
}
_MOST_OUTPUTS = 8
_SHOWN = 64  # characters of a name that a caller sent

# Of protobuf's encoding: the wire type of a field with a length, and two fields' numbers.
_LENGTH_DELIMITED = 2
_RAW_OUTPUT_CONTENTS = 6
_INFER_RESPONSE = 2


@dataclass(frozen=True, slots=True)
class Wanted:
    """An output that a caller asked for.

    Attributes:
        index: among the model's outputs.
        place: where to write it; None sends it.
    """

    index: int
    place: Place | None = None


def wanted_outputs(
    request: pb.ModelInferRequest, model: OipModel, regions: Regions
) -> tuple[Wanted, ...]:
    """The outputs that a request asks for; all where it names none.

    Raises:
        InvalidArgument: unknown, named twice, or with a parameter that is none of ours.
        NotFound: no such region of shared memory.
    """
    if not request.outputs:
        return _everything(len(model.outputs))
    if len(request.outputs) > _MOST_OUTPUTS:
        raise _invalid("names too many outputs", "outputs")
    known = {spec.name: index for index, spec in enumerate(model.outputs)}
    wanted: dict[int, Wanted] = {}
    for position, output in enumerate(request.outputs):
        index = known.get(output.name)
        if index is None or index in wanted:
            problem = "no output" if index is None else "twice the output"
            raise _invalid(
                f"{problem} {output.name[:_SHOWN]!r}; model {model.name!r} has {', '.join(known)}",
                f"outputs[{position}].name",
            )
        place = read_place(output.parameters, f"outputs[{position}]", regions)
        wanted[index] = Wanted(index, place)
    return tuple(wanted.values())


def check_places(wanted: tuple[Wanted, ...], model: OipModel, rows: int, itemsize: int) -> None:
    """Refuse an output that will not fit its place before anything is run for it.

    Raises:
        InvalidArgument: it will not.
    """
    for position, output in enumerate(wanted):
        if output.place is not None:
            size = rows * model.outputs[output.index].size * itemsize
            field = f"outputs[{position}].parameters[{BYTE_SIZE}]"
            if size > output.place.byte_size:
                raise _invalid(f"{size} bytes do not fit {output.place.byte_size}", field)
            output.place.region.check(output.place.offset, size, field)


def make_reply(
    request: pb.ModelInferRequest,
    model: OipModel,
    wanted: tuple[Wanted, ...],
    outputs: tuple[Array, ...],
    seed: int | None = None,
) -> bytes:
    """The serialised reply with the outputs that are wanted, raw or in shared memory.

    Args:
        request: gives the id.
        model: what ran.
        wanted: which outputs, in this order.
        outputs: every output of the model, each [rows, ...shape].
        seed: of the noise, where there was any.

    Raises:
        InvalidArgument: the shared memory is not there any more.
    """
    parts: list[bytes | Array] = []
    if request.id or seed is not None:
        own = pb.ModelInferResponse(id=request.id)
        if seed is not None:
            own.parameters["seed"].uint64_param = seed
        parts.append(own.SerializeToString())
    # One serialised message behind another is their merger, so nothing is copied but by the join.
    for head, output in zip(_heads(model, wanted, outputs), wanted, strict=True):
        parts.append(head)
        values = outputs[output.index]
        if output.place is None:
            parts.append(np.ascontiguousarray(values))
    _write_places(wanted, outputs)
    return b"".join(parts)  # type: ignore[arg-type]  # takes whatever has the buffer protocol


def in_stream(reply: bytes) -> bytes:
    """The serialised ModelStreamInferResponse of a serialised ModelInferResponse."""
    return _field_head(_INFER_RESPONSE, len(reply)) + reply


@lru_cache
def _everything(outputs: int) -> tuple[Wanted, ...]:
    return tuple(map(Wanted, range(outputs)))


def _write_places(wanted: tuple[Wanted, ...], outputs: tuple[Array, ...]) -> None:
    for position, output in enumerate(wanted):
        if output.place is not None:
            values = outputs[output.index]
            output.place.region.write(output.place.offset, values, f"outputs[{position}]")


def _heads(
    model: OipModel, wanted: tuple[Wanted, ...], outputs: tuple[Array, ...]
) -> tuple[bytes, ...]:
    """What stands before each output's contents: at first the reply without any.

    Kept by all that it depends on, for building a message takes longer than running a small graph.
    """
    key = (len(outputs[0]), *((item.index, outputs[item.index].dtype.char) for item in wanted))
    if any(item.place is not None for item in wanted):
        return _new_heads(model, wanted, outputs)
    heads = model.heads.get(key)
    if heads is None:
        heads = model.heads[key] = _new_heads(model, wanted, outputs)
    return heads


def _new_heads(
    model: OipModel, wanted: tuple[Wanted, ...], outputs: tuple[Array, ...]
) -> tuple[bytes, ...]:
    reply = pb.ModelInferResponse(model_name=model.name, model_version=model.version)
    heads = []
    for item in wanted:
        values = outputs[item.index]
        spec = model.outputs[item.index]
        described = reply.outputs.add(
            name=spec.name, datatype=_DATATYPES[values.dtype], shape=values.shape
        )
        if item.place is not None:
            described.parameters[REGION].string_param = item.place.name
            described.parameters[BYTE_SIZE].int64_param = values.nbytes
            if item.place.offset:
                described.parameters[OFFSET].int64_param = item.place.offset
        # Clients find an output's contents by its position, so there is an entry in any case.
        size = values.nbytes if item.place is None else 0
        heads.append(_field_head(_RAW_OUTPUT_CONTENTS, size))
    return (reply.SerializeToString() + heads[0], *heads[1:])


def _field_head(number: int, size: int) -> bytes:
    """Tag and length of a field of bytes, in protobuf's encoding."""
    head = bytearray([number << 3 | _LENGTH_DELIMITED])
    while size >= 0x80:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return bytes(head)


def _invalid(problem: str, field: str) -> InvalidArgument:
    return InvalidArgument(problem, reason="INVALID_TENSOR", field=field)
