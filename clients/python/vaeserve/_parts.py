"""What the requests of every call are made of, and how their answers are joined. Pure."""

import math
from collections.abc import Sequence

import numpy as np

from vaeserve._errors import InvalidInput, VersionChanged
from vaeserve._info import ModelInfo
from vaeserve._latents import Array, Latents
from vaeserve._plan import Reply
from vaeserve._results import Generated
from vaeserve.v1 import arrays, tensor_pb2, vae_service_pb2 as pb

FLOAT_BYTES = 4


def generated_bytes(
    info: ModelInfo, dtype: tensor_pb2.DataType.ValueType, latents: bool = False
) -> int:
    """Bytes of one generated row: its picture, and its latents when they come along."""
    element = FLOAT_BYTES if dtype == arrays.FLOAT32 else 1
    return math.prod(info.input_shape) * element + latents * latent_bytes(info)


def rows_with_draws(info: ModelInfo, draws: int, instead: str = "") -> int | None:
    """Rows of a request for so many draws each; None for no limit by them.

    Args:
        info: of the model.
        draws: a row.
        instead: what else could be done, to end the error's text.

    Raises:
        InvalidInput: the server does not make so many for a single row.
    """
    most = info.limits.max_draws // draws if draws and info.limits.max_draws else None
    if most == 0:
        raise InvalidInput(
            f"{draws} draws a row; the server makes at most {info.limits.max_draws} at once"
            f"{instead}"
        )
    return most


def latent_bytes(info: ModelInfo) -> int:
    """Bytes of one latent row."""
    return math.prod(info.latent_shape) * FLOAT_BYTES


def outputs(latents: bool) -> list[pb.GenerateOutput.ValueType]:
    """Which parts a call that generates asks for."""
    return [pb.GENERATE_OUTPUT_X_HAT] + latents * [pb.GENERATE_OUTPUT_LATENTS]


def rows(array: Array, part: range) -> tensor_pb2.Tensor:
    """The rows of a part, for its request."""
    return arrays.to_tensor(array if len(part) == len(array) else array[part.start : part.stop])


def joined(tensors: Sequence[tensor_pb2.Tensor]) -> Array:
    """One array that owns its memory and can be written to, unlike the messages it comes from."""
    if len(tensors) == 1:
        return arrays.from_tensor(tensors[0], writable=True)
    return np.concatenate([arrays.from_tensor(tensor) for tensor in tensors])


def joined_latents(tensors: Sequence[tensor_pb2.Tensor], space: str) -> Latents:
    """The same for latents of a space."""
    return Latents.of_floats(joined(tensors), space)


def one_version(replies: Sequence[Reply]) -> int:
    """The version that answered.

    Raises:
        VersionChanged: there were two, or two models.
    """
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


def pictures(replies: Sequence[pb.DecodeResponse] | Sequence[pb.ReconstructResponse]) -> Array:
    """The pictures of all answers."""
    one_version(replies)
    return joined([reply.x_hat for reply in replies])


def generated(
    replies: Sequence[pb.SampleResponse]
    | Sequence[pb.InterpolateResponse]
    | Sequence[pb.EditResponse],
    seed: int | None,
    *,
    single: bool = False,
) -> Generated:
    """Join pictures, and latents where the server sent them; `single` drops the axis of pairs."""
    version, space = one_version(replies), replies[0].latent_space_id
    x_hat = joined([reply.x_hat for reply in replies])
    latents = None
    if replies[0].HasField("latents"):
        latents = joined_latents([reply.latents for reply in replies], space)
    return Generated(
        pictures=x_hat[0] if single else x_hat,
        latents=latents[0] if single and latents is not None else latents,
        seed=seed,
        latent_space_id=space,
        version=version,
    )
