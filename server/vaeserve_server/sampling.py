"""Sample: draws from the standard or the fitted prior, and their decoded means."""

import math
from collections.abc import Iterator
from functools import partial

from vaeserve.v1 import arrays, vae_service_pb2 as pb
from vaeserve.v1.noise import Block
from vaeserve_server import rows
from vaeserve_server.call import HEAVY, Handled, Plain, Steps
from vaeserve_server.errors import InvalidArgument, NotFitted
from vaeserve_server.fitted_prior import FittedPrior
from vaeserve_server.generating import generated
from vaeserve_server.models import Model
from vaeserve_server.options import generate_outputs, seed_of
from vaeserve_server.packing import PriorDraws, prior_latents
from vaeserve_server.phases import HEAVY_FLOATS

_MAX_TEMPERATURE = 10.0

_PART_FLOATS = 1 << 18

_STANDARD = (pb.PRIOR_UNSPECIFIED, pb.PRIOR_STANDARD)


def sample(request: pb.SampleRequest, model: Model) -> Handled:
    """Answer a Sample."""
    rows.check_picture_dtype(request.x_hat_dtype, model)
    rows.check_rows(request.n, model, "n")
    temperature = request.temperature if request.HasField("temperature") else 1.0
    if not 0.0 <= temperature <= _MAX_TEMPERATURE:
        raise InvalidArgument(
            f"temperature {temperature} is outside 0..{_MAX_TEMPERATURE:g}",
            reason="INVALID_OPTION",
            field="temperature",
        )
    first_row = rows.check_first_row(request.first_row, request.n)
    block = Block(seed_of(request), first_row, request.n)
    draws = PriorDraws(block, temperature)
    if request.prior not in _STANDARD:
        return _generated(request, model, draws, _fitted(request, model))
    if request.outputs:
        return _generated(request, model, draws, None)
    of_levels = request.x_hat_dtype == arrays.UINT8
    wanted = rows.for_pictures(draws, request.x_hat_dtype)
    return Plain(model.decoder, wanted, partial(model.forms.sample, block.seed, of_levels))


def sample_parts(request: pb.SampleRequest, model: Model) -> Iterator[pb.SampleRequest]:
    """A SampleStream as Sample requests whose answers are about a megabyte each."""
    rows.check_first_row(request.first_row, request.n)
    # Named now, so that all parts are of one version and one seed.
    part = pb.SampleRequest()
    part.CopyFrom(request)
    part.version, part.seed = model.info.version, seed_of(request)
    floats = math.prod(model.input_shape) + model.latent_size
    most = max(1, min(model.max_rows, _PART_FLOATS // floats))
    if not request.n:
        yield part  # refused like any Sample without rows
    for begin in range(0, request.n, most):
        part.n = min(most, request.n - begin)
        part.first_row = request.first_row + begin
        yield part


def _fitted(request: pb.SampleRequest, model: Model) -> FittedPrior:
    if request.prior != pb.PRIOR_FITTED:
        raise InvalidArgument("unknown prior", reason="INVALID_OPTION", field="prior")
    if model.toolkit.prior is None:
        raise NotFitted(
            f"model {model.info.name!r} has no fitted prior; sample from the standard one",
            reason="NO_FITTED_PRIOR",
            field="prior",
        )
    return model.toolkit.prior


def _generated(
    request: pb.SampleRequest, model: Model, draws: PriorDraws, fitted: FittedPrior | None
) -> Steps:
    block = draws.block
    outputs = generate_outputs(request.outputs)
    reply = pb.SampleResponse(
        version=model.info.version, latent_space_id=model.info.latent_space_id, seed=block.seed
    )
    # A mixture's draw is a product with a factor of that many columns.
    columns = 1 if fitted is None else model.latent_size
    if block.rows * model.latent_size * columns > HEAVY_FLOATS:
        yield HEAVY
    if fitted is None:
        z = prior_latents([draws], model.latent_shape)
    else:
        z = fitted.draw(block, draws.temperature).reshape(-1, *model.latent_shape)
    yield from generated(request, reply, z, outputs, model)
    return reply
