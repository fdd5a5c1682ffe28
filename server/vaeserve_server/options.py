"""What requests choose: outputs, seeds, draws. Refused before anything is run for them."""

from collections.abc import Collection

from vaeserve.v1 import vae_service_pb2 as pb
from vaeserve_server import rows
from vaeserve_server.errors import InvalidArgument, TooManyRows
from vaeserve_server.models import Model

_MOST_OUTPUTS = 8

Seeded = pb.EncodeRequest | pb.SampleRequest | pb.ReconstructRequest | pb.ScoreRequest


def seed_of(request: Seeded) -> int:
    """The request's seed, or one chosen for it."""
    return request.seed if request.HasField("seed") else rows.choose_seed()


def encode_outputs(outputs: Collection[int]) -> frozenset[int]:
    """The parts of the posterior asked for, by default mu and log_var.

    Raises:
        InvalidArgument: one that this version does not know: it is refused, not ignored.
    """
    default = pb.ENCODE_OUTPUT_MU, pb.ENCODE_OUTPUT_LOG_VAR
    return _chosen(outputs, default, pb.EncodeOutput.values())


def generate_outputs(outputs: Collection[int]) -> frozenset[int]:
    """The parts of what is generated asked for, by default x_hat.

    Raises:
        InvalidArgument: one that this version does not know.
    """
    return _chosen(outputs, (pb.GENERATE_OUTPUT_X_HAT,), pb.GenerateOutput.values())


def _chosen(
    outputs: Collection[int], default: Collection[int], known: Collection[int]
) -> frozenset[int]:
    if len(outputs) > _MOST_OUTPUTS:
        raise InvalidArgument("names too many outputs", reason="INVALID_OPTION", field="outputs")
    chosen = frozenset(outputs) or frozenset(default)
    if not chosen <= set(known) - {0}:
        raise InvalidArgument("holds an unknown output", reason="INVALID_OPTION", field="outputs")
    return chosen


def check_draws(count: int, draws: int, model: Model) -> None:
    """Draws are work of their own, so they have a limit of their own.

    Raises:
        TooManyRows: more than the limit.
    """
    if count * draws > model.info.limits.max_draws:
        raise TooManyRows(
            f"{count} rows of {draws} draws; this model makes at most "
            f"{model.info.limits.max_draws} draws a request",
            field="draws",
        )
