"""What Sample, Edit and Interpolate share: latents and their decoded means, as asked for."""

from collections.abc import Collection, Generator

from vaeserve.v1 import vae_service_pb2 as pb
from vaeserve.v1.arrays import fill_tensor
from vaeserve_server import rows
from vaeserve_server.call import Array, Floats, Heavy, Outputs, Run
from vaeserve_server.chaining import Chained
from vaeserve_server.models import Model
from vaeserve_server.phases import run
from vaeserve_server.soundness import check_computed

_Request = pb.SampleRequest | pb.EditRequest | pb.InterpolateRequest
_Reply = pb.SampleResponse | pb.EditResponse | pb.InterpolateResponse


def generated(
    request: _Request, reply: _Reply, z: Floats, outputs: Collection[int], model: Model
) -> Generator[Run | Heavy, Outputs, None]:
    """Put latents and their decoded means into a reply.

    Args:
        request: names the type of x_hat.
        reply: to fill.
        z: [..., *latent_shape]; the axes before latent_shape are those of both in the reply.
        outputs: which of the two were asked for.
        model: decodes.
    """
    x_hat = None
    if pb.GENERATE_OUTPUT_X_HAT in outputs:
        latents = z.reshape(-1, *model.latent_shape)
        x_hat, *_ = yield from run(model.decoder, rows.for_pictures(latents, request.x_hat_dtype))
    _fill(request, reply, z, x_hat, outputs=outputs, model=model)


def chained(
    request: _Request,
    reply: _Reply,
    given: Chained,
    *,
    axes: tuple[int, ...],
    outputs: Collection[int],
    model: Model,
) -> Generator[Run | Heavy, Outputs, None]:
    """The same, of inputs, by a model that has a chain.

    Args:
        request: names the type of x_hat.
        reply: to fill.
        given: inputs, and what their latents are to be.
        axes: of both in the reply, before those of a row.
        outputs: which of the two were asked for.
        model: whose chain runs.
    """
    assert model.chain is not None  # noqa: S101  the caller has looked
    wanted = rows.for_pictures(given, request.x_hat_dtype)
    z, x_hat, *_ = yield from run(model.chain, wanted)
    z = z.reshape(*axes, *model.latent_shape)
    _fill(request, reply, z, x_hat, outputs=outputs, model=model)


def _fill(
    request: _Request,
    reply: _Reply,
    z: Floats,
    x_hat: Array | None,
    *,
    outputs: Collection[int],
    model: Model,
) -> None:
    """Put into a reply what was asked for."""
    if pb.GENERATE_OUTPUT_LATENTS in outputs:
        check_computed(z)
        fill_tensor(reply.latents, z)
    if x_hat is not None:
        pictures = rows.picture_rows(x_hat, request.x_hat_dtype, model)
        axes = z.shape[: z.ndim - len(model.latent_shape)]
        fill_tensor(reply.x_hat, pictures.reshape(*axes, *x_hat.shape[1:]))
