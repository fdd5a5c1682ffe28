"""What a call sends, and how its answers become one result. Pure: no sockets, no clock.

A call larger than the server's limits becomes several requests. Noise depends on the seed and on a
row's absolute number only, so every part carries the call's one seed and the number of its first
row, and the joined result is the bits that one large request would have given.
"""

from collections.abc import Sequence

import numpy.typing as npt

from vaeserve import _inputs, _parts
from vaeserve._errors import InvalidInput
from vaeserve._foreign import PictureLike
from vaeserve._info import ModelInfo
from vaeserve._latents import Array, Latents
from vaeserve._numbers import whole_number
from vaeserve._plan import Plan, split
from vaeserve._results import Generated, Posterior
from vaeserve._seed import seed_or_new
from vaeserve.v1 import model_service_pb2, noise, vae_service_pb2 as pb

_UINT32 = 1 << 32
_PRIORS = {"standard": pb.PRIOR_STANDARD, "fitted": pb.PRIOR_FITTED}
_WITH_DRAWS = (pb.ENCODE_OUTPUT_MU, pb.ENCODE_OUTPUT_LOG_VAR, pb.ENCODE_OUTPUT_DRAWS)
_PATHS = {"lerp": pb.INTERPOLATION_PATH_LERP, "slerp": pb.INTERPOLATION_PATH_SLERP}


def get_model(name: str, version: int | None) -> model_service_pb2.GetModelRequest:
    """Ask for a model's manifest; no version means the one being served."""
    return model_service_pb2.GetModelRequest(name=name, version=version or 0)


def encode(
    info: ModelInfo,
    version: int,
    x: PictureLike,
    *,
    draws: int,
    seed: int | None,
    first_row: int,
) -> Plan[pb.EncodeRequest, pb.EncodeResponse, Posterior]:
    """Plan an encode call; arguments as `Model.encode`, `version` 0 for the one being served."""
    draws = whole_number("draws", draws, 0, _UINT32)
    first_row = whole_number("first_row", first_row, 0, noise.FIRST_ROW_LIMIT)
    most = _parts.rows_with_draws(info, draws, ", Posterior.sample makes any number")
    rows = _inputs.pictures(x, info)
    chosen = seed_or_new(seed) if draws else None

    def build(part: range) -> pb.EncodeRequest:
        # Without outputs it asks for mu and log_var, and the server takes its shortest way.
        request = pb.EncodeRequest(model=info.name, version=version)
        if chosen is not None:
            request.outputs.extend(_WITH_DRAWS)
            request.draws = draws
            request.seed = chosen
            request.first_row = first_row + part.start
        _parts.put_rows(request.input, rows, part)
        return request

    def join(replies: Sequence[pb.EncodeResponse]) -> Posterior:
        answered, space = _parts.one_version(replies), replies[0].latent_space_id
        return Posterior(
            mu=_parts.joined_latents(replies, "mu", space),
            log_var=_parts.joined_latents(replies, "log_var", space),
            draws=_parts.joined_latents(replies, "draws", space) if draws else None,
            seed=chosen,
            first_row=first_row,
            version=answered,
        )

    parts = split(
        info.limits,
        len(rows),
        request_bytes=rows.nbytes,
        reply_row=(2 + draws) * _parts.latent_bytes(info),
        most=most,
    )
    return Plan(parts, build, join)


def sample(
    info: ModelInfo,
    version: int,
    n: int,
    *,
    seed: int | None,
    temperature: float,
    prior: str,
    first_row: int,
    latents: bool,
    dtype: npt.DTypeLike,
) -> Plan[pb.SampleRequest, pb.SampleResponse, Generated]:
    """Plan a sample call; arguments as `Model.sample`."""
    if prior not in _PRIORS:
        raise InvalidInput(f"prior must be one of {', '.join(_PRIORS)}, got {prior!r}")
    n = whole_number("n", n, 1, noise.FIRST_ROW_LIMIT)
    first_row = whole_number("first_row", first_row, 0, noise.FIRST_ROW_LIMIT)
    chosen = seed_or_new(seed)
    x_hat_dtype = _inputs.picture_type(dtype, info)

    def build(part: range) -> pb.SampleRequest:
        request = pb.SampleRequest(
            model=info.name,
            version=version,
            n=len(part),
            seed=chosen,
            temperature=temperature,
            prior=_PRIORS[prior],
            first_row=first_row + part.start,
            x_hat_dtype=x_hat_dtype,
        )
        if latents:
            request.outputs.extend(_parts.WITH_LATENTS)
        return request

    parts = split(
        info.limits,
        n,
        request_bytes=0,
        reply_row=_parts.generated_bytes(info, x_hat_dtype, latents),
    )
    return Plan(parts, build, lambda replies: _parts.generated(replies, chosen))


def decode(
    info: ModelInfo, version: int, z: npt.ArrayLike, *, dtype: npt.DTypeLike
) -> Plan[pb.DecodeRequest, pb.DecodeResponse, Array]:
    """Plan a decode call; arguments as `Model.decode`."""
    rows = _inputs.latents(z, info)
    space = rows.latent_space_id if isinstance(rows, Latents) else ""
    x_hat_dtype = _inputs.picture_type(dtype, info)

    def build(part: range) -> pb.DecodeRequest:
        request = pb.DecodeRequest(
            model=info.name,
            version=version,
            latent_space_id=space,
            x_hat_dtype=x_hat_dtype,
        )
        _parts.put_rows(request.latents, rows, part)
        return request

    parts = split(
        info.limits,
        len(rows),
        request_bytes=rows.nbytes,
        reply_row=_parts.generated_bytes(info, x_hat_dtype),
    )
    return Plan(parts, build, _parts.pictures)


def reconstruct(
    info: ModelInfo,
    version: int,
    x: PictureLike,
    *,
    draw: bool,
    seed: int | None,
    first_row: int,
    dtype: npt.DTypeLike,
) -> Plan[pb.ReconstructRequest, pb.ReconstructResponse, Array]:
    """Plan a reconstruct call; arguments as `Model.reconstruct`."""
    first_row = whole_number("first_row", first_row, 0, noise.FIRST_ROW_LIMIT)
    rows = _inputs.pictures(x, info)
    chosen = seed_or_new(seed) if draw else None
    x_hat_dtype = _inputs.picture_type(dtype, info)

    def build(part: range) -> pb.ReconstructRequest:
        request = pb.ReconstructRequest(
            model=info.name,
            version=version,
            draw=draw,
            seed=chosen,
            first_row=first_row + part.start,
            x_hat_dtype=x_hat_dtype,
        )
        _parts.put_rows(request.input, rows, part)
        return request

    parts = split(
        info.limits,
        len(rows),
        request_bytes=rows.nbytes,
        reply_row=_parts.generated_bytes(info, x_hat_dtype),
    )
    return Plan(parts, build, _parts.pictures)


def interpolate(
    info: ModelInfo,
    version: int,
    start: PictureLike,
    end: PictureLike,
    *,
    steps: int,
    path: str,
    latents: bool,
    dtype: npt.DTypeLike,
) -> Plan[pb.InterpolateRequest, pb.InterpolateResponse, Generated]:
    """Plan an interpolate call; arguments as `Model.interpolate`."""
    if path not in _PATHS:
        raise InvalidInput(f"path must be one of {', '.join(_PATHS)}, got {path!r}")
    steps = whole_number("steps", steps, 2, _UINT32)  # both ends are among them
    ends = _inputs.ends(start, end, info)
    x_hat_dtype = _inputs.picture_type(dtype, info)

    def build(part: range) -> pb.InterpolateRequest:
        request = pb.InterpolateRequest(
            model=info.name,
            version=version,
            space=ends.space,
            latent_space_id=ends.latent_space_id,
            steps=steps,
            path=_PATHS[path],
            x_hat_dtype=x_hat_dtype,
        )
        if latents:
            request.outputs.extend(_parts.WITH_LATENTS)
        _parts.put_rows(request.start, ends.start, part)
        _parts.put_rows(request.end, ends.end, part)
        return request

    parts = split(
        info.limits,
        len(ends.start),
        request_bytes=ends.start.nbytes + ends.end.nbytes,
        reply_row=steps * _parts.generated_bytes(info, x_hat_dtype, latents),
        weight=steps,
    )
    return Plan(parts, build, lambda replies: _parts.generated(replies, None, single=ends.single))
