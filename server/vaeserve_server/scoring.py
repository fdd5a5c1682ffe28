"""Score: how well the model knows rows, and how usual that is."""

from collections.abc import Generator
from typing import NamedTuple

import numpy as np

from vaeserve.v1 import vae_service_pb2 as pb
from vaeserve.v1.arrays import fill_tensor
from vaeserve.v1.noise import Block, Doubles
from vaeserve_server import rows
from vaeserve_server.call import HEAVY, Floats, Heavy, Outputs, Run, Steps
from vaeserve_server.levels import model_values
from vaeserve_server.metrics import Metrics
from vaeserve_server.models import Model
from vaeserve_server.nats import kl_nats, reconstruction_nats, row_sums
from vaeserve_server.options import check_draws, seed_of
from vaeserve_server.phases import HEAVY_FLOATS, drawn, posterior_noise, run
from vaeserve_server.soundness import check_computed

_Terms = Generator[Run | Heavy, Outputs, tuple[Doubles, Doubles]]


class _Encoded(NamedTuple):
    """Rows as model values, and their posteriors, [rows, ...] each."""

    x: Floats
    mu: Floats
    log_var: Floats


def score(request: pb.ScoreRequest, model: Model, metrics: Metrics) -> Steps:
    """Answer a Score."""
    given = rows.input_rows(request.input, model, "input")
    block = Block(seed_of(request), rows.check_first_row(request.first_row, len(given)), len(given))
    check_draws(len(given), request.draws, model)
    reply = pb.ScoreResponse(version=model.info.version)
    mu, log_var = yield from run(model.encoder, given)
    (x_hat,) = yield from run(model.decoder, mu)
    if given.size > HEAVY_FLOATS:
        yield HEAVY
    encoded = _Encoded(model_values(given, model.levels), mu, log_var)
    with _overflow_is_refused_later():
        kl = kl_nats(mu, log_var)
        reconstruction = reconstruction_nats(encoded.x, x_hat, model.info)
    metrics.reconstructed(model.info.name, reconstruction)
    results = [
        (reply.percentile, model.toolkit.percentile(reconstruction + kl)),
        (reply.typicality, model.toolkit.typicality(reconstruction, kl)),
    ]
    if request.draws:
        reply.seed = block.seed
        reconstruction, weighted = yield from _over_draws(model, encoded, block, request.draws)
        results.append((reply.importance_weighted_nats, weighted))
    results += [
        (reply.reconstruction_nats, reconstruction),
        (reply.kl_nats, kl),
        (reply.negative_elbo_nats, reconstruction + kl),
    ]
    for tensor, values in results:
        with _overflow_is_refused_later():
            narrow = values.astype(np.float32)
        check_computed(narrow, "input")
        fill_tensor(tensor, narrow)
    return reply


def _over_draws(model: Model, encoded: _Encoded, block: Block, draws: int) -> _Terms:
    """The mean reconstruction term over posterior draws, and the importance-weighted bound.

    Decoded in as many batches as it takes, one after the other: between them others have their
    turn, and the pictures of one batch are all that is kept of pictures.

    Returns:
        nats, [rows] each.
    """
    x, mu, log_var = encoded
    reconstruction = np.empty((len(x), draws))
    log_ratio = np.empty((len(x), draws))
    at_a_time = model.max_rows // len(x)
    for first in range(0, draws, at_a_time):
        count = min(at_a_time, draws - first)
        eps = yield from posterior_noise(model, block, count, first_draw=first)
        z = drawn(mu[:, None], log_var[:, None], eps)
        with _overflow_is_refused_later():
            ratio = _log_ratio(z, eps, log_var)
        (x_hat,) = yield from run(model.decoder, z.reshape(-1, *model.latent_shape))
        if x_hat.size > HEAVY_FLOATS:
            yield HEAVY
        part = slice(first, first + count)
        with _overflow_is_refused_later():
            nats = reconstruction_nats(np.repeat(x, count, axis=0), x_hat, model.info)
        reconstruction[:, part] = nats.reshape(len(x), count)
        log_ratio[:, part] = ratio
    with _overflow_is_refused_later():
        return reconstruction.mean(axis=1), -_log_mean_exp(log_ratio - reconstruction)


def _overflow_is_refused_later() -> np.errstate:
    """For arithmetic on rows that overflow: what they come to is not finite, and refused."""
    return np.errstate(over="ignore", invalid="ignore")


def _log_ratio(z: Floats, eps: Floats, log_var: Floats) -> Doubles:
    """Log p(z) - log q(z|x) of draws z = mu + sigma eps: 1/2 sum(eps^2 + log sigma^2 - z^2)."""
    terms = np.square(eps) + log_var[:, None] - np.square(z)
    flat = terms.reshape(-1, *terms.shape[2:])
    return 0.5 * row_sums(flat).reshape(terms.shape[:2])


def _log_mean_exp(values: Doubles) -> Doubles:
    """log(mean(exp(values))) of each row without overflow, [rows]."""
    largest = values.max(axis=1)
    return np.asarray(largest + np.log(np.exp(values - largest[:, None]).mean(axis=1)), np.float64)
