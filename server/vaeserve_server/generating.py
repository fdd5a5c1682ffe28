"""What Sample, Edit and Interpolate share: latents and their decoded means, as asked for."""

from collections.abc import Collection, Generator

from vaeserve.v1 import vae_service_pb2 as pb
from vaeserve.v1.arrays import to_tensor
from vaeserve_server import rows
from vaeserve_server.call import Floats, Heavy, Outputs, Run
from vaeserve_server.models import Model
from vaeserve_server.phases import run

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
    if pb.GENERATE_OUTPUT_LATENTS in outputs:
        reply.latents.CopyFrom(to_tensor(z))
    if pb.GENERATE_OUTPUT_X_HAT in outputs:
        (x_hat,) = yield from run(model.decoder, z.reshape(-1, *model.latent_shape))
        pictures = rows.picture_rows(x_hat, request.x_hat_dtype, model)
        axes = z.shape[: z.ndim - len(model.latent_shape)]
        reply.x_hat.CopyFrom(to_tensor(pictures.reshape(*axes, *x_hat.shape[1:])))
