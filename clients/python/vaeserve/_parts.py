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
WITH_LATENTS = (pb.GENERATE_OUTPUT_X_HAT, pb.GENERATE_OUTPUT_LATENTS)
"""Outputs of a call that generates; none at all stands for the pictures alone."""


def generated_bytes(
    info: ModelInfo, dtype: tensor_pb2.DataType.ValueType, latents: bool = False
) -> int:
    """Bytes of one generated row: its picture, and its latents when they come along."""
    element = FLOAT_BYTES if dtype == arrays.FLOAT32 else 1
    picture = math.prod(info.input_shape) * element
    return picture + latent_bytes(info) if latents else picture


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


def put_rows(tensor: tensor_pb2.Tensor, array: Array, part: range) -> None:
    """Write the rows of a part into its request."""
    arrays.fill_tensor(tensor, array if len(part) == len(array) else array[part.start : part.stop])


def joined(replies: Sequence[Reply], field: str, *, writable: bool = True) -> Array:
    """The tensors of one field of all answers as one array that owns its memory.

    Args:
        replies: the answers, in order.
        field: name of the field.
        writable: whether the array must be writable, which costs a copy.
    """
    if len(replies) == 1:  # most calls
        return arrays.from_tensor(getattr(replies[0], field), writable=writable)
    return np.concatenate([arrays.from_tensor(getattr(reply, field)) for reply in replies])


def joined_latents(
    replies: Sequence[Reply], field: str, space: str, *, writable: bool = True
) -> Latents:
    """The same for latents of a space."""
    return Latents.of_floats(joined(replies, field, writable=writable), space)


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
    return joined(replies, "x_hat")


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
    x_hat = joined(replies, "x_hat", writable=False)
    latents = None
    if replies[0].HasField("latents"):
        latents = joined_latents(replies, "latents", space, writable=False)
    return Generated(
        pictures=x_hat[0] if single else x_hat,
        latents=latents[0] if single and latents is not None else latents,
        seed=seed,
        latent_space_id=space,
        version=version,
    )
