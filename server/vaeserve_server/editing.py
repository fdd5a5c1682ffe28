"""Edit: latents moved along named attribute directions, and their decoded means."""

import math
from collections.abc import Iterable, Mapping

import numpy as np

from vaeserve.v1 import vae_service_pb2 as pb
from vaeserve.v1.directions import project_out
from vaeserve.v1.noise import Doubles
from vaeserve_server import rows
from vaeserve_server.call import HEAVY, Floats, Steps
from vaeserve_server.chaining import each_once
from vaeserve_server.errors import InvalidArgument, NotFitted, NotFound
from vaeserve_server.generating import chained, generated
from vaeserve_server.models import Model
from vaeserve_server.options import generate_outputs
from vaeserve_server.phases import HEAVY_FLOATS, run

_MAX_AMOUNT = 100.0

_SHOWN = 64  # characters of a name that a caller sent

# What is left of a direction, relative to it, below which it lies within those preserved.
_NOTHING_LEFT = 1e-6


def edit(request: pb.EditRequest, model: Model) -> Steps:
    """Answer an Edit."""
    outputs = generate_outputs(request.outputs)
    rows.check_picture_dtype(request.x_hat_dtype, model)
    move = _move(request, model)
    given = request.WhichOneof("rows")
    if given is None:
        raise InvalidArgument("set input or latents", reason="INVALID_OPTION", field="input")
    reply = pb.EditResponse(version=model.info.version, latent_space_id=model.info.latent_space_id)
    if given == "input":
        x = rows.input_rows(request.input, model, "input")
        if model.chain is not None and pb.GENERATE_OUTPUT_X_HAT in outputs:
            moved_rows = each_once(x, move=move.astype(np.float32))
            yield from chained(
                request, reply, moved_rows, axes=(len(x),), outputs=outputs, model=model
            )
            return reply
        z, _log_var = yield from run(model.encoder, x)
    else:
        space = request.latent_space_id
        z = rows.latent_rows(request.latents, space, model, "latents").astype(np.float32)
        # Here, since without x_hat no batcher sees them.
        rows.check_values(z, "latents", unit_interval=False)
    if z.size > HEAVY_FLOATS:
        yield HEAVY
    moved: Floats = (z + move.reshape(model.latent_shape)).astype(np.float32)
    yield from generated(request, reply, moved, outputs, model)
    return reply


def along(
    directions: Mapping[str, Doubles], amounts: Mapping[str, float], preserve: Iterable[str]
) -> Doubles:
    """The move sum of amount * direction, with what it shares with others projected out.

    Each direction is projected (`directions.project_out`), so that the move is orthogonal to all
    that is preserved.

    Args:
        directions: all there are, float64 [d].
        amounts: by attribute.
        preserve: attributes that shall stay as they are.

    Returns:
        float64 [d].

    Raises:
        InvalidArgument: nothing is left of a direction.
    """
    move: Doubles = np.zeros_like(next(iter(directions.values())))
    kept = sorted(set(preserve))
    # Ordered, since a map is not, and sums depend on the order.
    for name in sorted(amounts):
        direction = directions[name]
        if kept:
            basis = np.stack([directions[other] for other in kept], axis=1)
            left = project_out(direction, basis)
            if np.linalg.norm(left) <= _NOTHING_LEFT * np.linalg.norm(direction):
                raise InvalidArgument(
                    f"nothing is left of {name!r} without what it shares with those preserved",
                    reason="INVALID_OPTION",
                    field="preserve",
                )
            direction = left
        move = move + amounts[name] * direction
    return move


def _move(request: pb.EditRequest, model: Model) -> Doubles:
    directions = model.toolkit.directions
    if not directions:
        raise NotFitted(
            f"model {model.info.name!r} has no attributes; fit one and export again",
            reason="NO_ATTRIBUTES",
            field="model",
        )
    for field, names in (("amounts", request.amounts), ("preserve", request.preserve)):
        for name in names:
            if name not in directions:
                raise NotFound(
                    f"no attribute {name[:_SHOWN]!r}; there is: {', '.join(directions)}",
                    reason="ATTRIBUTE_NOT_FOUND",
                    field=field,
                )
    for name, amount in request.amounts.items():
        if not (math.isfinite(amount) and abs(amount) <= _MAX_AMOUNT):
            raise InvalidArgument(
                f"amount {amount:g} of {name!r} is outside -{_MAX_AMOUNT:g}..{_MAX_AMOUNT:g}",
                reason="INVALID_OPTION",
                field="amounts",
            )
    return along(directions, request.amounts, request.preserve)
