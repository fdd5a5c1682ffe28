"""The five VAE calls.

Each handler converts, runs graphs, converts back; the mathematics is in `noise` and `paths`.
"""

import math
from collections.abc import Callable, Collection, Iterator
from functools import partial

import numpy as np

from vaeserve.v1 import arrays, tensor_pb2, vae_service_pb2 as pb
from vaeserve.v1.arrays import to_tensor
from vaeserve.v1.noise import Block, reparameterise
from vaeserve_server import paths, rows
from vaeserve_server.call import HEAVY, Floats, Handled, Plain, Steps
from vaeserve_server.errors import InvalidArgument, TooManyRows
from vaeserve_server.metrics import Metrics
from vaeserve_server.models import Catalogue, Model
from vaeserve_server.packing import PriorDraws, model_values, prior_latents
from vaeserve_server.phases import HEAVY_FLOATS, Draw, posterior_noise, reconstructed, run

_MAX_TEMPERATURE = 10.0
_MOST_OUTPUTS = 8

_PART_FLOATS = 1 << 18

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


class VaeHandlers:
    """Handlers of vaeserve.v1.VaeService: check, run, reply."""

    def __init__(self, catalogue: Callable[[], Catalogue], metrics: Metrics) -> None:
        """Make the handlers.

        Args:
            catalogue: what is served now; raises Unavailable while loading.
            metrics: takes the latent health.
        """
        self._catalogue = catalogue
        self._metrics = metrics

    def encode(self, request: pb.EncodeRequest) -> Handled:
        """Posterior of each row, and draws from it."""
        model = self._catalogue().get(request.model, request.version)
        x = rows.input_rows(request.input, model, "input")
        if request.outputs or request.draws:
            return self._encode_outputs(request, model, x)
        return Plain(model.encoder, x, model.forms.posterior)

    def _encode_outputs(self, request: pb.EncodeRequest, model: Model, x: arrays.Array) -> Steps:
        outputs = _chosen(request.outputs, (pb.ENCODE_OUTPUT_MU, pb.ENCODE_OUTPUT_LOG_VAR))
        wants_draws = pb.ENCODE_OUTPUT_DRAWS in outputs
        _check_draws(request, model, len(x), wants_draws)
        reply = pb.EncodeResponse(
            version=model.info.version, latent_space_id=model.info.latent_space_id
        )
        mu, log_var = yield from run(model.encoder, x)
        if pb.ENCODE_OUTPUT_MU in outputs:
            reply.mu.CopyFrom(to_tensor(mu))
        if pb.ENCODE_OUTPUT_LOG_VAR in outputs:
            reply.log_var.CopyFrom(to_tensor(log_var))
        if wants_draws:
            reply.seed = _seed(request)
            block = Block(reply.seed, request.first_row, len(x))
            eps = yield from posterior_noise(model, block, request.draws)
            drawn = reparameterise(mu[:, None], log_var[:, None], eps)
            reply.draws.CopyFrom(to_tensor(drawn))
        return reply

    def sample(self, request: pb.SampleRequest) -> Handled:
        """Draws from the prior, decoded."""
        model = self._catalogue().get(request.model, request.version)
        rows.check_picture_dtype(request.x_hat_dtype, model)
        rows.check_rows(request.n, model, "n")
        temperature = request.temperature if request.HasField("temperature") else 1.0
        if not 0.0 <= temperature <= _MAX_TEMPERATURE:
            raise InvalidArgument(
                f"temperature {temperature} is outside 0..{_MAX_TEMPERATURE:g}",
                reason="INVALID_OPTION",
                field="temperature",
            )
        block = Block(_seed(request), rows.check_first_row(request.first_row), request.n)
        draws = PriorDraws(block, temperature)
        if request.outputs:
            return self._sample_outputs(request, model, draws)
        of_levels = request.x_hat_dtype == arrays.UINT8
        return Plain(model.decoder, draws, partial(model.forms.sample, block.seed, of_levels))

    def _sample_outputs(self, request: pb.SampleRequest, model: Model, draws: PriorDraws) -> Steps:
        block = draws.block
        outputs = _chosen(request.outputs, (pb.GENERATE_OUTPUT_X_HAT,))
        reply = pb.SampleResponse(
            version=model.info.version, latent_space_id=model.info.latent_space_id, seed=block.seed
        )
        if block.rows * model.latent_size > HEAVY_FLOATS:
            yield HEAVY
        z = prior_latents([draws], model.latent_shape)
        if pb.GENERATE_OUTPUT_LATENTS in outputs:
            reply.latents.CopyFrom(to_tensor(z))
        if pb.GENERATE_OUTPUT_X_HAT in outputs:
            (x_hat,) = yield from run(model.decoder, z)
            reply.x_hat.CopyFrom(to_tensor(rows.picture_rows(x_hat, request.x_hat_dtype, model)))
        return reply

    def sample_parts(self, request: pb.SampleRequest) -> Iterator[pb.SampleRequest]:
        """A SampleStream as Sample requests whose answers are about a megabyte each."""
        model = self._catalogue().get(request.model, request.version)
        rows.check_first_row(request.first_row + request.n)
        # Named now, so that all parts are of one version and one seed.
        part = pb.SampleRequest()
        part.CopyFrom(request)
        part.version, part.seed = model.info.version, _seed(request)
        floats = math.prod(model.input_shape) + model.latent_size
        most = max(1, min(model.max_rows, _PART_FLOATS // floats))
        if not request.n:
            yield part  # refused like any Sample without rows
        for begin in range(0, request.n, most):
            part.n = min(most, request.n - begin)
            part.first_row = request.first_row + begin
            yield part

    def decode(self, request: pb.DecodeRequest) -> Handled:
        """Mean of p(x|z)."""
        model = self._catalogue().get(request.model, request.version)
        rows.check_picture_dtype(request.x_hat_dtype, model)
        z = rows.latent_rows(request.latents, request.latent_space_id, model, "latents")
        of_levels = request.x_hat_dtype == arrays.UINT8
        build = model.forms.decoded_levels if of_levels else model.forms.decoded
        return Plain(model.decoder, z, build)

    def reconstruct(self, request: pb.ReconstructRequest) -> Steps:
        """Encode and decode, through mu or through a draw."""
        model = self._catalogue().get(request.model, request.version)
        rows.check_picture_dtype(request.x_hat_dtype, model)
        x = rows.input_rows(request.input, model, "input")
        first_row = rows.check_first_row(request.first_row)
        reply = pb.ReconstructResponse(version=model.info.version)
        draw = None
        if request.draw:
            reply.seed = _seed(request)
            draw = Draw(reply.seed, first_row)
        (x_hat,) = yield from reconstructed(model, x, draw, self._metrics)
        reply.x_hat.CopyFrom(to_tensor(rows.picture_rows(x_hat, request.x_hat_dtype, model)))
        return reply

    def interpolate(self, request: pb.InterpolateRequest) -> Steps:
        """Decoded path between each pair of rows."""
        model = self._catalogue().get(request.model, request.version)
        outputs = _chosen(request.outputs, (pb.GENERATE_OUTPUT_X_HAT,))
        rows.check_picture_dtype(request.x_hat_dtype, model)
        if request.path not in _PATHS or request.space not in _SPACES:
            raise InvalidArgument("unknown path or space", reason="INVALID_OPTION", field="path")
        of_latents = request.space == pb.INTERPOLATION_SPACE_LATENT
        start, end = (
            _end(tensor, field, request.latent_space_id if of_latents else None, model)
            for tensor, field in ((request.start, "start"), (request.end, "end"))
        )
        _check_steps(len(start), len(end), request.steps, model)
        if not of_latents:
            # Both ends in one run: a path has at least two steps, so they fit where it fits.
            mu, _log_var = yield from run(model.encoder, np.concatenate([start, end]))
            start, end = mu[: len(start)], mu[len(start) :]
        pairs, shape = len(start), model.latent_shape
        if pairs * request.steps * model.latent_size > HEAVY_FLOATS:
            yield HEAVY
        path = _PATHS[request.path](
            start.reshape(pairs, -1), end.reshape(pairs, -1), request.steps
        ).reshape(-1, *shape)
        reply = pb.InterpolateResponse(
            version=model.info.version, latent_space_id=model.info.latent_space_id
        )
        if pb.GENERATE_OUTPUT_LATENTS in outputs:
            reply.latents.CopyFrom(to_tensor(path.reshape(pairs, request.steps, *shape)))
        if pb.GENERATE_OUTPUT_X_HAT in outputs:
            (x_hat,) = yield from run(model.decoder, path)
            pictures = rows.picture_rows(x_hat, request.x_hat_dtype, model)
            reply.x_hat.CopyFrom(
                to_tensor(pictures.reshape(pairs, request.steps, *x_hat.shape[1:]))
            )
        return reply


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


def _seed(request: pb.EncodeRequest | pb.SampleRequest | pb.ReconstructRequest) -> int:
    return request.seed if request.HasField("seed") else rows.choose_seed()


def _chosen(outputs: Collection[int], default: tuple[int, ...]) -> frozenset[int]:
    """The outputs asked for; numbers that this version does not know are refused, not ignored."""
    if len(outputs) > _MOST_OUTPUTS:
        raise InvalidArgument("names too many outputs", reason="INVALID_OPTION", field="outputs")
    chosen = frozenset(outputs) or frozenset(default)
    known = pb.EncodeOutput.values() if len(default) > 1 else pb.GenerateOutput.values()
    if not chosen <= set(known) - {0}:
        raise InvalidArgument("holds an unknown output", reason="INVALID_OPTION", field="outputs")
    return chosen


def _check_draws(request: pb.EncodeRequest, model: Model, count: int, wanted: bool) -> None:
    """Draws are work and reply of their own, so they have a limit of their own."""
    rows.check_first_row(request.first_row)
    if wanted != bool(request.draws):
        raise InvalidArgument(
            "set draws to at least 1 together with the output DRAWS, else leave both out",
            reason="INVALID_OPTION",
            field="draws",
        )
    if count * request.draws > model.info.limits.max_draws:
        raise TooManyRows(
            f"{count} rows of {request.draws} draws; this model makes at most "
            f"{model.info.limits.max_draws} draws a request",
            field="draws",
        )


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
