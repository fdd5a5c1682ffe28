"""A SampleStream's parts are together the one request."""

from typing import Any, cast

import pytest
from hypothesis import given, strategies as st

from vaeserve.v1 import model_pb2, vae_service_pb2 as pb
from vaeserve.v1.arrays import UINT8
from vaeserve.v1.noise import FIRST_ROW_LIMIT
from vaeserve_server.errors import InvalidArgument, NotFound
from vaeserve_server.metrics import Metrics
from vaeserve_server.models import Catalogue, Model
from vaeserve_server.vae import VaeHandlers


def handlers(max_rows: int, side: int) -> VaeHandlers:
    info = model_pb2.ModelInfo(
        name="m",
        version=4,
        input_shape=[3, side, side],
        latent_shape=[7],
        limits=model_pb2.Limits(max_rows=max_rows),
    )
    nothing = cast("Any", None)
    catalogue = Catalogue({"m": Model(info, nothing, nothing, None, nothing)})
    return VaeHandlers(lambda: catalogue, Metrics())


@given(
    n=st.integers(1, 3000),
    first_row=st.integers(0, 2**39),
    seed=st.none() | st.integers(0, 2**64 - 1),
    max_rows=st.integers(1, 300),
    side=st.sampled_from([1, 8, 64, 600]),
)
def test_they_cover_exactly_its_rows_with_one_seed(
    n: int, first_row: int, seed: int | None, max_rows: int, side: int
) -> None:
    request = pb.SampleRequest(
        model="m", n=n, first_row=first_row, seed=seed, temperature=0.5, x_hat_dtype=UINT8
    )
    # As the transport has them: each is done with before the next is made.
    parts = []
    for part in handlers(max_rows, side).sample_parts(request):
        copy = pb.SampleRequest()
        copy.CopyFrom(part)
        parts.append(copy)
    rows = [row for part in parts for row in range(part.first_row, part.first_row + part.n)]
    assert rows == list(range(first_row, first_row + n))
    assert all(part.n <= max_rows for part in parts)
    assert all(
        part.n * 4 * (3 * side * side + 7) <= max(1 << 20, 4 * (3 * side**2 + 7)) for part in parts
    )
    assert all(part.HasField("seed") for part in parts)
    (one_seed,) = {part.seed for part in parts}
    assert seed is None or one_seed == seed
    for part in parts:
        assert (part.model, part.version, part.temperature) == ("m", 4, 0.5)
        assert part.x_hat_dtype == request.x_hat_dtype


def test_no_rows_is_one_request_that_will_be_refused() -> None:
    (part,) = handlers(8, 1).sample_parts(pb.SampleRequest(model="m"))
    assert part.n == 0


def test_rows_beyond_the_last_are_refused_before_any_is_made() -> None:
    request = pb.SampleRequest(model="m", n=10, first_row=FIRST_ROW_LIMIT - 9)
    with pytest.raises(InvalidArgument):
        next(handlers(8, 1).sample_parts(request))
    request.first_row -= 1
    assert sum(part.n for part in handlers(8, 1).sample_parts(request)) == 10


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(NotFound):
        next(handlers(8, 1).sample_parts(pb.SampleRequest(model="other", n=1)))
