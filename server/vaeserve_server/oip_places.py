"""Where in shared memory a tensor of the Open Inference Protocol lies, by its parameters."""

from collections.abc import Mapping
from dataclasses import dataclass

from vaeserve.inference import grpc_service_pb2 as pb
from vaeserve_server.errors import InvalidArgument
from vaeserve_server.oip_parameters import integer, text
from vaeserve_server.shared_memory import Region, Regions

REGION = "shared_memory_region"
BYTE_SIZE = "shared_memory_byte_size"
OFFSET = "shared_memory_offset"


@dataclass(frozen=True, slots=True)
class Place:
    """Where in shared memory a tensor lies.

    Attributes:
        name: of the region.
        region: the region; held, so that it outlives its registration.
        offset: in the region, bytes.
        byte_size: bytes there are.
    """

    name: str
    region: Region
    offset: int
    byte_size: int


def read_place(
    parameters: Mapping[str, pb.InferParameter], field: str, regions: Regions
) -> Place | None:
    """The place of a tensor; None without parameters.

    Args:
        parameters: the tensor's.
        field: where the tensor stands in the request.
        regions: those that are registered.

    Raises:
        InvalidArgument: unknown or missing parameters, or of another type.
        NotFound: no such region.
    """
    if not parameters:
        return None
    if not {REGION, BYTE_SIZE} <= parameters.keys() <= {REGION, BYTE_SIZE, OFFSET}:
        raise InvalidArgument(
            f"a tensor takes {REGION}, {BYTE_SIZE} and, if it is not 0, {OFFSET}",
            reason="INVALID_OPTION",
            field=f"{field}.parameters",
        )
    name = text(parameters[REGION], f"{field}.parameters[{REGION}]")
    offset = 0
    if OFFSET in parameters:
        offset = integer(parameters[OFFSET], f"{field}.parameters[{OFFSET}]")
    return Place(
        name=name,
        region=regions.get(name, f"{field}.parameters[{REGION}]"),
        offset=offset,
        byte_size=integer(parameters[BYTE_SIZE], f"{field}.parameters[{BYTE_SIZE}]"),
    )
