"""Encode: posteriors of rows, and draws from them."""

from vaeserve.v1 import arrays, vae_service_pb2 as pb
from vaeserve.v1.arrays import fill_tensor
from vaeserve.v1.noise import Block
from vaeserve_server import rows
from vaeserve_server.call import Handled, Plain, Steps
from vaeserve_server.errors import InvalidArgument
from vaeserve_server.models import Model
from vaeserve_server.options import check_draws, encode_outputs, seed_of
from vaeserve_server.phases import drawn, posterior_noise, run


def encode(request: pb.EncodeRequest, model: Model) -> Handled:
    """Answer an Encode."""
    x = rows.input_rows(request.input, model, "input")
    if request.outputs or request.draws:
        return _chosen_outputs(request, model, x)
    return Plain(model.encoder, x, model.forms.posterior)


def _chosen_outputs(request: pb.EncodeRequest, model: Model, x: arrays.Array) -> Steps:
    outputs = encode_outputs(request.outputs)
    wants_draws = pb.ENCODE_OUTPUT_DRAWS in outputs
    first_row = rows.check_first_row(request.first_row, len(x))
    if wants_draws != bool(request.draws):
        raise InvalidArgument(
            "set draws to at least 1 together with the output DRAWS, else leave both out",
            reason="INVALID_OPTION",
            field="draws",
        )
    check_draws(len(x), request.draws, model)
    reply = pb.EncodeResponse(
        version=model.info.version, latent_space_id=model.info.latent_space_id
    )
    mu, log_var = yield from run(model.encoder, x)
    if pb.ENCODE_OUTPUT_MU in outputs:
        fill_tensor(reply.mu, mu)
    if pb.ENCODE_OUTPUT_LOG_VAR in outputs:
        fill_tensor(reply.log_var, log_var)
    if wants_draws:
        reply.seed = seed_of(request)
        block = Block(reply.seed, first_row, len(x))
        eps = yield from posterior_noise(model, block, request.draws)
        fill_tensor(reply.draws, drawn(mu[:, None], log_var[:, None], eps))
    return reply
