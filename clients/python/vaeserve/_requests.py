"""What a call sends, and how its answers become one result. Pure: no sockets, no clock.

A call larger than the server's limits becomes several requests. Noise depends on the seed and on a
row's absolute number only, so every part carries the call's one seed and the number of its first
row, and the joined result is the bits that one large request would have given.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vaeserve import _inputs
from vaeserve._errors import InvalidInput, VersionChanged
from vaeserve._foreign import PictureLike
from vaeserve._info import ModelInfo
from vaeserve._numbers import whole_number
from vaeserve._plan import Plan, Reply, split
from vaeserve._results import Array, Generated, Latents, Posterior
from vaeserve._seed import seed_or_new
from vaeserve.v1 import arrays, model_service_pb2, noise, tensor_pb2, vae_service_pb2 as pb

_FLOAT_BYTES = 4
_UINT32 = 1 << 32
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
    most = info.limits.max_draws // draws if draws and info.limits.max_draws else None
    if most == 0:
        raise InvalidInput(
            f"{draws} draws a row; the server makes at most {info.limits.max_draws} at once, "
            "Posterior.sample makes any number"
        )
    rows = _inputs.pictures(x, info)
    chosen = seed_or_new(seed) if draws else None
    outputs = [pb.ENCODE_OUTPUT_MU, pb.ENCODE_OUTPUT_LOG_VAR]
    if draws:
        outputs.append(pb.ENCODE_OUTPUT_DRAWS)

    def build(part: range) -> pb.EncodeRequest:
        return pb.EncodeRequest(
            model=info.name,
            version=version,
            input=_rows(rows, part),
            outputs=outputs,
            draws=draws,
            seed=chosen,
            first_row=first_row + part.start,
        )

    def join(replies: Sequence[pb.EncodeResponse]) -> Posterior:
        answered, space = _one_version(replies), replies[0].latent_space_id
        return Posterior(
            mu=_latents([reply.mu for reply in replies], space),
            log_var=_latents([reply.log_var for reply in replies], space),
            draws=_latents([reply.draws for reply in replies], space) if draws else None,
            seed=chosen,
            first_row=first_row,
            version=answered,
        )

    parts = split(
        info.limits,
        len(rows),
        request_row=rows[0].nbytes,
        reply_row=(2 + draws) * _latent_bytes(info),
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
    first_row: int,
    latents: bool,
    dtype: npt.DTypeLike,
) -> Plan[pb.SampleRequest, pb.SampleResponse, Generated]:
    """Plan a sample call; arguments as `Model.sample`."""
    n = whole_number("n", n, 1, noise.FIRST_ROW_LIMIT)
    first_row = whole_number("first_row", first_row, 0, noise.FIRST_ROW_LIMIT)
    chosen = seed_or_new(seed)
    x_hat_dtype = _inputs.picture_type(dtype, info)

    def build(part: range) -> pb.SampleRequest:
        return pb.SampleRequest(
            model=info.name,
            version=version,
            n=len(part),
            seed=chosen,
            temperature=temperature,
            first_row=first_row + part.start,
            outputs=_outputs(latents),
            x_hat_dtype=x_hat_dtype,
        )

    parts = split(
        info.limits, n, request_row=0, reply_row=_generated_bytes(info, x_hat_dtype, latents)
    )
    return Plan(parts, build, lambda replies: _generated(replies, chosen))


def decode(
    info: ModelInfo, version: int, z: npt.ArrayLike, *, dtype: npt.DTypeLike
) -> Plan[pb.DecodeRequest, pb.DecodeResponse, Array]:
    """Plan a decode call; arguments as `Model.decode`."""
    rows = _inputs.latents(z, info)
    x_hat_dtype = _inputs.picture_type(dtype, info)

    def build(part: range) -> pb.DecodeRequest:
        return pb.DecodeRequest(
            model=info.name,
            version=version,
            latents=_rows(rows, part),
            latent_space_id=rows.latent_space_id,
            x_hat_dtype=x_hat_dtype,
        )

    parts = split(
        info.limits,
        len(rows),
        request_row=rows[0].nbytes,
        reply_row=_generated_bytes(info, x_hat_dtype),
    )
    return Plan(parts, build, _pictures)


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
        return pb.ReconstructRequest(
            model=info.name,
            version=version,
            input=_rows(rows, part),
            draw=draw,
            seed=chosen,
            first_row=first_row + part.start,
            x_hat_dtype=x_hat_dtype,
        )

    parts = split(
        info.limits,
        len(rows),
        request_row=rows[0].nbytes,
        reply_row=_generated_bytes(info, x_hat_dtype),
    )
    return Plan(parts, build, _pictures)


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
        return pb.InterpolateRequest(
            model=info.name,
            version=version,
            space=ends.space,
            start=_rows(ends.start, part),
            end=_rows(ends.end, part),
            latent_space_id=ends.latent_space_id,
            steps=steps,
            path=_PATHS[path],
            outputs=_outputs(latents),
            x_hat_dtype=x_hat_dtype,
        )

    parts = split(
        info.limits,
        len(ends.start),
        request_row=ends.start[0].nbytes + ends.end[0].nbytes,
        reply_row=steps * _generated_bytes(info, x_hat_dtype, latents),
        weight=steps,
    )
    return Plan(parts, build, lambda replies: _generated(replies, None, single=ends.single))


def _generated_bytes(
    info: ModelInfo, dtype: tensor_pb2.DataType.ValueType, latents: bool = False
) -> int:
    """Bytes of one generated row: its picture, and its latents when they come along."""
    element = _FLOAT_BYTES if dtype == arrays.FLOAT32 else 1
    return math.prod(info.input_shape) * element + latents * _latent_bytes(info)


def _latent_bytes(info: ModelInfo) -> int:
    return math.prod(info.latent_shape) * _FLOAT_BYTES


def _outputs(latents: bool) -> list[pb.GenerateOutput.ValueType]:
    return [pb.GENERATE_OUTPUT_X_HAT] + latents * [pb.GENERATE_OUTPUT_LATENTS]


def _rows(rows: Array, part: range) -> tensor_pb2.Tensor:
    return arrays.to_tensor(rows if len(part) == len(rows) else rows[part.start : part.stop])


def _joined(tensors: Sequence[tensor_pb2.Tensor]) -> Array:
    """One array that owns its memory and can be written to, unlike the messages it comes from."""
    if len(tensors) == 1:
        return arrays.from_tensor(tensors[0], writable=True)
    return np.concatenate([arrays.from_tensor(tensor) for tensor in tensors])


def _latents(tensors: Sequence[tensor_pb2.Tensor], space: str) -> Latents:
    return Latents.of_floats(_joined(tensors), space)


def _one_version(replies: Sequence[Reply]) -> int:
    if len(replies) == 1:
        return replies[0].version
    versions = sorted({reply.version for reply in replies})
    if len(versions) > 1:
        raise VersionChanged(f"versions {versions} answered parts of one call; call again")
    # Two models of one version number, as when a repository is replaced under a running call.
    # Decoded and reconstructed pictures come without an id.
    if len({getattr(reply, "latent_space_id", "") for reply in replies}) > 1:
        raise VersionChanged("different models answered parts of one call; call again")
    return versions[0]


def _pictures(replies: Sequence[pb.DecodeResponse] | Sequence[pb.ReconstructResponse]) -> Array:
    _one_version(replies)
    return _joined([reply.x_hat for reply in replies])


def _generated(
    replies: Sequence[pb.SampleResponse] | Sequence[pb.InterpolateResponse],
    seed: int | None,
    *,
    single: bool = False,
) -> Generated:
    """Join pictures, and latents where the server sent them; `single` drops the axis of pairs."""
    version, space = _one_version(replies), replies[0].latent_space_id
    pictures = _joined([reply.x_hat for reply in replies])
    latents = None
    if replies[0].HasField("latents"):
        latents = _latents([reply.latents for reply in replies], space)
    return Generated(
        pictures=pictures[0] if single else pictures,
        latents=latents[0] if single and latents is not None else latents,
        seed=seed,
        latent_space_id=space,
        version=version,
    )
