"""Interpolate: decoded paths between pairs of rows."""

from collections.abc import Collection

import numpy as np

from vaeserve.v1 import arrays, paths, tensor_pb2, vae_service_pb2 as pb
from vaeserve_server import rows
from vaeserve_server.call import HEAVY, Floats, Steps
from vaeserve_server.chaining import straight_paths
from vaeserve_server.errors import InvalidArgument, TooManyRows
from vaeserve_server.generating import chained, generated
from vaeserve_server.levels import model_values
from vaeserve_server.models import Model
from vaeserve_server.options import generate_outputs
from vaeserve_server.phases import HEAVY_FLOATS, run

_PATHS = {
    pb.INTERPOLATION_PATH_UNSPECIFIED: paths.lerp,
    pb.INTERPOLATION_PATH_LERP: paths.lerp,
    pb.INTERPOLATION_PATH_SLERP: paths.slerp,
}
_SPACES = (
    pb.INTERPOLATION_SPACE_UNSPECIFIED,
    pb.INTERPOLATION_SPACE_INPUT,
    pb.INTERPOLATION_SPACE_LATENT,
)


def interpolate(request: pb.InterpolateRequest, model: Model) -> Steps:
    """Answer an Interpolate."""
    outputs = generate_outputs(request.outputs)
    rows.check_picture_dtype(request.x_hat_dtype, model)
    if request.path not in _PATHS or request.space not in _SPACES:
        raise InvalidArgument("unknown path or space", reason="INVALID_OPTION", field="path")
    of_latents = request.space == pb.INTERPOLATION_SPACE_LATENT
    start, end = (
        _end(tensor, field, request.latent_space_id if of_latents else None, model)
        for tensor, field in ((request.start, "start"), (request.end, "end"))
    )
    _check_steps(len(start), len(end), request.steps, model)
    reply = pb.InterpolateResponse(
        version=model.info.version, latent_space_id=model.info.latent_space_id
    )
    if not of_latents:
        if _goes_by_chain(request, outputs, model):
            lines = straight_paths(np.concatenate([start, end]), request.steps)
            axes = (len(start), request.steps)
            yield from chained(request, reply, lines, axes=axes, outputs=outputs, model=model)
            return reply
        # Both ends in one run: a path has at least two steps, so they fit where it fits.
        mu, _log_var = yield from run(model.encoder, np.concatenate([start, end]))
        start, end = mu[: len(start)], mu[len(start) :]
    pairs = len(start)
    if pairs * request.steps * model.latent_size > HEAVY_FLOATS:
        yield HEAVY
    path = _PATHS[request.path](start.reshape(pairs, -1), end.reshape(pairs, -1), request.steps)
    z = path.reshape(pairs, request.steps, *model.latent_shape)
    yield from generated(request, reply, z, outputs, model)
    return reply


def _goes_by_chain(request: pb.InterpolateRequest, outputs: Collection[int], model: Model) -> bool:
    return (
        model.chain is not None
        and _PATHS[request.path] is paths.lerp
        and pb.GENERATE_OUTPUT_X_HAT in outputs
    )


def _end(tensor: tensor_pb2.Tensor, field: str, space: str | None, model: Model) -> Floats:
    """One end of a path: latents of a space, or inputs where that is None."""
    if space is None:
        given: arrays.Array = rows.input_rows(tensor, model, field)
    else:
        given = rows.latent_rows(tensor, space, model, field)
    values = model_values(given, model.levels)
    # Here and not by the batcher, which cannot know which end it was.
    rows.check_values(values, field, unit_interval=model.unit_interval and space is None)
    return values


def _check_steps(first: int, last: int, steps: int, model: Model) -> None:
    if first != last:
        raise InvalidArgument(
            f"start has {first} rows, end has {last}; pair them row for row",
            reason="INVALID_TENSOR",
            field="end",
        )
    if steps < 2:
        raise InvalidArgument(
            "a path has at least 2 steps, its ends", reason="INVALID_OPTION", field="steps"
        )
    if first * steps > model.max_rows:
        raise TooManyRows(
            f"{first} paths of {steps} steps; this model takes at most {model.max_rows} rows",
            field="steps",
        )
