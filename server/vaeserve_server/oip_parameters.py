"""Request parameters of the Open Inference Protocol: they carry what it has no field for.

Unknown ones are refused: a misspelt `seed` would otherwise be another picture each time.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from vaeserve.inference import grpc_service_pb2 as pb
from vaeserve_server.errors import InvalidArgument, LatentSpaceMismatch
from vaeserve_server.oip_models import OipModel, Part

# What clients of the protocol send to any server; it means nothing for a model without state.
_IGNORED = frozenset(
    {
        "priority",
        "sequence_end",
        "sequence_id",
        "sequence_start",
        "timeout",
        "triton_enable_empty_final_response",
    }
)
_X_HAT_DATATYPE = "x_hat_datatype"
_OF_DRAWS = frozenset({"seed", "first_row", "temperature"})
_KNOWN: dict[Part, frozenset[str]] = {
    Part.ENCODER: frozenset(),
    Part.DECODER: frozenset({"latent_space_id", _X_HAT_DATATYPE}),
    Part.WHOLE: frozenset({"draw", _X_HAT_DATATYPE}) | _OF_DRAWS,
}
_MAX_TEMPERATURE = 10.0
_SHOWN = 64  # characters of a name that a caller sent


@dataclass(frozen=True, slots=True)
class Options:
    """What a request's parameters ask for.

    Attributes:
        draw: reconstruct through a draw, not through mu.
        seed: of the noise; None lets the server choose.
        first_row: absolute number of the first row.
        temperature: factor of the noise.
        levels: whether x_hat goes out as UINT8.
    """

    draw: bool = False
    seed: int | None = None
    first_row: int = 0
    temperature: float = 1.0
    levels: bool = False


_NONE = Options()


def read_options(parameters: Mapping[str, pb.InferParameter], model: OipModel) -> Options:
    """Read a request's parameters.

    Raises:
        InvalidArgument: unknown here, of another type, or out of range.
        LatentSpaceMismatch: the latents are another model's.
    """
    names = parameters.keys() - _IGNORED if parameters else frozenset[str]()
    if not names:
        return _NONE
    known = _KNOWN[model.part]
    if not names <= known:
        name = min(names - known)[:_SHOWN]
        raise _invalid(
            f"model {model.name!r} takes {', '.join(sorted(known)) or 'no parameters'}", name
        )
    if "latent_space_id" in names:
        _check_latent_space(parameters, model)
    draw = "draw" in names and flag(parameters["draw"], _field("draw"))
    if not draw and names & _OF_DRAWS:
        raise _invalid("goes with draw = true", min(names & _OF_DRAWS))
    return Options(
        draw=draw,
        seed=_natural(parameters, "seed") if "seed" in names else None,
        first_row=_natural(parameters, "first_row") if "first_row" in names else 0,
        temperature=_temperature(parameters) if "temperature" in names else 1.0,
        levels=_X_HAT_DATATYPE in names and _levels(parameters, model),
    )


def text(parameter: pb.InferParameter, field: str) -> str:
    """A string.

    Raises:
        InvalidArgument: it is none.
    """
    _check_type(parameter, field, "string_param")
    return parameter.string_param


def flag(parameter: pb.InferParameter, field: str) -> bool:
    """A truth value.

    Raises:
        InvalidArgument: it is none.
    """
    _check_type(parameter, field, "bool_param")
    return parameter.bool_param


def integer(parameter: pb.InferParameter, field: str) -> int:
    """A whole number, signed or unsigned.

    Raises:
        InvalidArgument: it is none.
    """
    _check_type(parameter, field, "int64_param", "uint64_param")
    return parameter.int64_param or parameter.uint64_param


def _number(parameter: pb.InferParameter, field: str) -> float:
    _check_type(parameter, field, "double_param", "int64_param")
    return parameter.double_param or float(parameter.int64_param)


def _natural(parameters: Mapping[str, pb.InferParameter], name: str) -> int:
    value = integer(parameters[name], _field(name))
    if value < 0:
        raise _invalid("is negative", name)
    return value


def _check_latent_space(parameters: Mapping[str, pb.InferParameter], model: OipModel) -> None:
    space = text(parameters["latent_space_id"], _field("latent_space_id"))
    own = model.vae.info.latent_space_id
    if space != own:
        raise LatentSpaceMismatch(
            f"these latents are of space {space[:_SHOWN]}; model {model.name!r} has {own}: "
            "encode again with this model"
        )


def _temperature(parameters: Mapping[str, pb.InferParameter]) -> float:
    temperature = _number(parameters["temperature"], _field("temperature"))
    if not 0.0 <= temperature <= _MAX_TEMPERATURE:
        raise _invalid(f"is outside 0..{_MAX_TEMPERATURE:g}", "temperature")
    return temperature


def _levels(parameters: Mapping[str, pb.InferParameter], model: OipModel) -> bool:
    datatype = text(parameters[_X_HAT_DATATYPE], _field(_X_HAT_DATATYPE))
    allowed = ("FP32", "UINT8") if model.outputs[0].picture else ("FP32",)
    if datatype not in allowed:
        raise _invalid(f"x_hat of {model.name!r} is {' or '.join(allowed)}", _X_HAT_DATATYPE)
    return datatype == "UINT8"


def _check_type(parameter: pb.InferParameter, field: str, *allowed: str) -> None:
    if parameter.WhichOneof("parameter_choice") not in allowed:
        raise InvalidArgument(f"takes {' or '.join(allowed)}", reason="INVALID_OPTION", field=field)


def _field(name: str) -> str:
    return f"parameters[{name}]"


def _invalid(problem: str, name: str) -> InvalidArgument:
    return InvalidArgument(problem, reason="INVALID_OPTION", field=_field(name))
