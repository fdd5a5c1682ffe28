"""The five VAE calls.

Each handler converts, runs graphs, converts back; the mathematics is in `noise` and `paths`.
"""

import math
from collections.abc import Callable, Collection, Generator

import numpy as np

from vaeserve.v1 import model_pb2, vae_service_pb2 as pb
from vaeserve.v1.arrays import to_tensor
from vaeserve.v1.noise import Stream, reparameterise, standard_normal
from vaeserve_server import paths, rows
from vaeserve_server.call import Floats, Outputs, Run, Steps
from vaeserve_server.errors import InvalidArgument, TooManyRows
from vaeserve_server.metrics import Metrics
from vaeserve_server.models import Catalogue, Model
from vaeserve_server.nats import kl_nats, reconstruction_nats

_MAX_TEMPERATURE = 10.0
_MOST_OUTPUTS = 8
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

    def encode(self, request: pb.EncodeRequest) -> Steps:
        """Posterior of each row, and draws from it."""
        model = self._catalogue().get(request.model, request.version)
        outputs = _chosen(request.outputs, (pb.ENCODE_OUTPUT_MU, pb.ENCODE_OUTPUT_LOG_VAR))
        x = rows.input_rows(request.input, model.info, "input")
        wants_draws = pb.ENCODE_OUTPUT_DRAWS in outputs
        _check_draws(request, model.info, len(x), wants_draws)
        reply = pb.EncodeResponse(
            version=model.info.version, latent_space_id=model.info.latent_space_id
        )
        if wants_draws:
            reply.seed = _seed(request)
            eps = _posterior_noise(reply.seed, request.first_row, len(x), request.draws, model)
        mu, log_var = yield from self._posterior(model, x)
        if pb.ENCODE_OUTPUT_MU in outputs:
            reply.mu.CopyFrom(to_tensor(mu))
        if pb.ENCODE_OUTPUT_LOG_VAR in outputs:
            reply.log_var.CopyFrom(to_tensor(log_var))
        if wants_draws:
            drawn = reparameterise(mu[:, None], log_var[:, None], eps)
            reply.draws.CopyFrom(to_tensor(drawn))
        return reply

    def sample(self, request: pb.SampleRequest) -> Steps:
        """Draws from the prior, decoded."""
        model = self._catalogue().get(request.model, request.version)
        outputs = _chosen(request.outputs, (pb.GENERATE_OUTPUT_X_HAT,))
        rows.check_picture_dtype(request.x_hat_dtype, model.info)
        rows.check_rows(request.n, model.info, "n")
        temperature = request.temperature if request.HasField("temperature") else 1.0
        if not 0.0 <= temperature <= _MAX_TEMPERATURE:
            raise InvalidArgument(
                f"temperature {temperature} is outside 0..{_MAX_TEMPERATURE:g}",
                reason="INVALID_OPTION",
                field="temperature",
            )
        seed = _seed(request)
        eps = standard_normal(
            seed,
            Stream.PRIOR,
            first_row=rows.check_first_row(request.first_row),
            rows=request.n,
            size=math.prod(model.info.latent_shape),
        )[:, 0]
        z = (eps * np.float32(temperature)).reshape(-1, *model.info.latent_shape)
        reply = pb.SampleResponse(
            version=model.info.version, latent_space_id=model.info.latent_space_id, seed=seed
        )
        if pb.GENERATE_OUTPUT_LATENTS in outputs:
            reply.latents.CopyFrom(to_tensor(z))
        if pb.GENERATE_OUTPUT_X_HAT in outputs:
            x_hat = yield from _decoded(model, z)
            reply.x_hat.CopyFrom(rows.picture_tensor(x_hat, request.x_hat_dtype, model.info))
        return reply

    def decode(self, request: pb.DecodeRequest) -> Steps:
        """Mean of p(x|z)."""
        model = self._catalogue().get(request.model, request.version)
        rows.check_picture_dtype(request.x_hat_dtype, model.info)
        z = rows.latent_rows(request.latents, request.latent_space_id, model.info, "latents")
        x_hat = yield from _decoded(model, z)
        return pb.DecodeResponse(
            version=model.info.version,
            x_hat=rows.picture_tensor(x_hat, request.x_hat_dtype, model.info),
        )

    def reconstruct(self, request: pb.ReconstructRequest) -> Steps:
        """Encode and decode, through mu or through a draw."""
        model = self._catalogue().get(request.model, request.version)
        rows.check_picture_dtype(request.x_hat_dtype, model.info)
        x = rows.input_rows(request.input, model.info, "input")
        first_row = rows.check_first_row(request.first_row)
        reply = pb.ReconstructResponse(version=model.info.version)
        if request.draw:
            reply.seed = _seed(request)
            eps = _posterior_noise(reply.seed, first_row, len(x), 1, model)[:, 0]
        mu, log_var = yield from self._posterior(model, x)
        z = reparameterise(mu, log_var, eps) if request.draw else mu
        x_hat = yield from _decoded(model, z)
        nats = reconstruction_nats(x, x_hat, model.info)
        self._metrics.reconstruction.observe(model.info.name, nats)
        reply.x_hat.CopyFrom(rows.picture_tensor(x_hat, request.x_hat_dtype, model.info))
        return reply

    def interpolate(self, request: pb.InterpolateRequest) -> Steps:
        """Decoded path between each pair of rows."""
        model = self._catalogue().get(request.model, request.version)
        outputs = _chosen(request.outputs, (pb.GENERATE_OUTPUT_X_HAT,))
        rows.check_picture_dtype(request.x_hat_dtype, model.info)
        if request.path not in _PATHS or request.space not in _SPACES:
            raise InvalidArgument("unknown path or space", reason="INVALID_OPTION", field="path")
        if request.space == pb.INTERPOLATION_SPACE_LATENT:
            space = request.latent_space_id
            start = rows.latent_rows(request.start, space, model.info, "start")
            end = rows.latent_rows(request.end, space, model.info, "end")
        else:
            start = rows.input_rows(request.start, model.info, "start")
            end = rows.input_rows(request.end, model.info, "end")
        _check_steps(len(start), len(end), request.steps, model.info)
        if request.space != pb.INTERPOLATION_SPACE_LATENT:
            # Both ends in one run: a path has at least two steps, so they fit where it fits.
            mu, _log_var = yield Run(model.encoder, np.concatenate([start, end]))
            rows.check_outputs(mu)
            start, end = mu[: len(start)], mu[len(start) :]
        pairs, shape = len(start), tuple(model.info.latent_shape)
        path = _PATHS[request.path](
            start.reshape(pairs, -1), end.reshape(pairs, -1), request.steps
        ).reshape(-1, *shape)
        reply = pb.InterpolateResponse(
            version=model.info.version, latent_space_id=model.info.latent_space_id
        )
        if pb.GENERATE_OUTPUT_LATENTS in outputs:
            reply.latents.CopyFrom(to_tensor(path.reshape(pairs, request.steps, *shape)))
        if pb.GENERATE_OUTPUT_X_HAT in outputs:
            x_hat = yield from _decoded(model, path)
            x_hat = x_hat.reshape(pairs, request.steps, *x_hat.shape[1:])
            reply.x_hat.CopyFrom(rows.picture_tensor(x_hat, request.x_hat_dtype, model.info))
        return reply

    def _posterior(self, model: Model, x: Floats) -> Generator[Run, Outputs, tuple[Floats, Floats]]:
        mu, log_var = yield Run(model.encoder, x)
        rows.check_outputs(mu, log_var)
        self._metrics.kl.observe(model.info.name, kl_nats(mu, log_var))
        return mu, log_var


def _decoded(model: Model, z: Floats) -> Generator[Run, Outputs, Floats]:
    (x_hat,) = yield Run(model.decoder, z)
    rows.check_outputs(x_hat)
    return x_hat


def _seed(request: pb.EncodeRequest | pb.SampleRequest | pb.ReconstructRequest) -> int:
    return request.seed if request.HasField("seed") else rows.choose_seed()


def _posterior_noise(seed: int, first_row: int, count: int, draws: int, model: Model) -> Floats:
    """Noise for draws, [count, draws, ...latent_shape].

    Handlers make it before they yield, on their caller's own time: the batcher's thread serves all.
    """
    shape = tuple(model.info.latent_shape)
    size = math.prod(shape)
    eps = standard_normal(
        seed, Stream.POSTERIOR, first_row=first_row, rows=count, size=size, draws=draws
    )
    return eps.reshape(count, draws, *shape)


def _chosen(outputs: Collection[int], default: tuple[int, ...]) -> frozenset[int]:
    """The outputs asked for; numbers that this version does not know are refused, not ignored."""
    if len(outputs) > _MOST_OUTPUTS:
        raise InvalidArgument("names too many outputs", reason="INVALID_OPTION", field="outputs")
    chosen = frozenset(outputs) or frozenset(default)
    known = pb.EncodeOutput.values() if len(default) > 1 else pb.GenerateOutput.values()
    if not chosen <= set(known) - {0}:
        raise InvalidArgument("holds an unknown output", reason="INVALID_OPTION", field="outputs")
    return chosen


def _check_draws(
    request: pb.EncodeRequest, info: model_pb2.ModelInfo, count: int, wanted: bool
) -> None:
    """Draws are work and reply of their own, so they have a limit of their own."""
    rows.check_first_row(request.first_row)
    if wanted != bool(request.draws):
        raise InvalidArgument(
            "set draws to at least 1 together with the output DRAWS, else leave both out",
            reason="INVALID_OPTION",
            field="draws",
        )
    if count * request.draws > info.limits.max_draws:
        raise TooManyRows(
            f"{count} rows of {request.draws} draws; this model makes at most "
            f"{info.limits.max_draws} draws a request",
            field="draws",
        )


def _check_steps(first: int, last: int, steps: int, info: model_pb2.ModelInfo) -> None:
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
    if first * steps > info.limits.max_rows:
        raise TooManyRows(
            f"{first} paths of {steps} steps; this model takes at most {info.limits.max_rows} rows",
            field="steps",
        )
