"""What edit and score send, and how their answers become one result. Pure; see `_requests`."""

from collections.abc import Mapping, Sequence

import numpy.typing as npt

from vaeserve import _inputs, _parts
from vaeserve._errors import InvalidInput
from vaeserve._foreign import PictureLike
from vaeserve._info import ModelInfo
from vaeserve._latents import Latents, stacked
from vaeserve._numbers import whole_number
from vaeserve._plan import Plan, split
from vaeserve._results import Generated, Score
from vaeserve._seed import seed_or_new
from vaeserve.v1 import noise, vae_service_pb2 as pb

_UINT32 = 1 << 32
_TERMS = 6  # tensors of one float a row in a ScoreResponse


def edit(
    info: ModelInfo,
    version: int,
    rows: PictureLike,
    amounts: Mapping[str, float],
    *,
    preserve: Sequence[str],
    latents: bool,
    dtype: npt.DTypeLike,
) -> Plan[pb.EditRequest, pb.EditResponse, Generated]:
    """Plan an edit call; arguments as `Model.edit`."""
    if isinstance(preserve, str):
        raise InvalidInput(f"preserve takes several names: pass [{preserve!r}]")
    rows = stacked(rows)
    checked = (
        _inputs.latents(rows, info) if isinstance(rows, Latents) else _inputs.pictures(rows, info)
    )
    x_hat_dtype = _inputs.picture_type(dtype, info)
    try:
        asked = pb.EditRequest(
            model=info.name,
            version=version,
            amounts={name: float(amount) for name, amount in amounts.items()},
            preserve=preserve,
            outputs=_parts.WITH_LATENTS if latents else (),
            x_hat_dtype=x_hat_dtype,
        )
    except (AttributeError, TypeError, ValueError) as exc:
        raise InvalidInput(f"amounts are numbers by attribute name, got {amounts!r}") from exc

    def build(part: range) -> pb.EditRequest:
        request = pb.EditRequest()
        request.CopyFrom(asked)
        if isinstance(rows, Latents):
            _parts.put_rows(request.latents, checked, part)
            request.latent_space_id = rows.latent_space_id
        else:
            _parts.put_rows(request.input, checked, part)
        return request

    parts = split(
        info.limits,
        len(checked),
        request_bytes=checked.nbytes,
        reply_row=_parts.generated_bytes(info, x_hat_dtype, latents),
    )
    return Plan(parts, build, lambda replies: _parts.generated(replies, None))


def score(
    info: ModelInfo,
    version: int,
    x: PictureLike,
    *,
    draws: int,
    seed: int | None,
    first_row: int,
) -> Plan[pb.ScoreRequest, pb.ScoreResponse, Score]:
    """Plan a score call; arguments as `Model.score`."""
    draws = whole_number("draws", draws, 0, _UINT32)
    first_row = whole_number("first_row", first_row, 0, noise.FIRST_ROW_LIMIT)
    most = _parts.rows_with_draws(info, draws)
    rows = _inputs.pictures(x, info)
    chosen = seed_or_new(seed) if draws else None

    def build(part: range) -> pb.ScoreRequest:
        request = pb.ScoreRequest(
            model=info.name,
            version=version,
            draws=draws,
            seed=chosen,
            first_row=first_row + part.start,
        )
        _parts.put_rows(request.input, rows, part)
        return request

    def join(replies: Sequence[pb.ScoreResponse]) -> Score:
        return Score(
            reconstruction=_parts.joined(replies, "reconstruction_nats"),
            kl=_parts.joined(replies, "kl_nats"),
            negative_elbo=_parts.joined(replies, "negative_elbo_nats"),
            importance_weighted=_parts.joined(replies, "importance_weighted_nats")
            if draws
            else None,
            percentile=_parts.joined(replies, "percentile"),
            typicality=_parts.joined(replies, "typicality"),
            seed=chosen,
            version=_parts.one_version(replies),
        )

    parts = split(
        info.limits,
        len(rows),
        request_bytes=rows.nbytes,
        reply_row=_TERMS * _parts.FLOAT_BYTES,
        most=most,
    )
    return Plan(parts, build, join)
