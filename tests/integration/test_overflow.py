"""A model whose encoder clamps nothing: what overflows is refused, never answered as infinite."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch
from torch import nn

from support.failures import failure
from support.servers import running_app
from vaeserve.v1 import vae_service_pb2 as pb
from vaeserve.v1.arrays import to_tensor
from vaeserve.v1.vae_service_pb2_grpc import VaeServiceStub
from vaeserve_export import export_modules

Stub = VaeServiceStub


class Halves(nn.Module):
    """mu and log_var are the halves of a row."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mu, log_var = x.chunk(2, dim=1)
        return mu, log_var


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VaeServiceStub]:
    repository = tmp_path_factory.mktemp("overflow")
    decoder = nn.Linear(2, 4)
    nn.init.constant_(decoder.weight, 1e-3)
    nn.init.zeros_(decoder.bias)  # else drawn by a generator that other tests have moved
    export_modules(
        Halves(),
        decoder,
        name="halves",
        repository=repository,
        input_shape=(4,),
        likelihood="gaussian",
        gaussian_variance=1.0,
        calibration_rows=torch.randn(300, 4, generator=torch.Generator().manual_seed(0)),
    )
    with (
        running_app(Path(repository)) as app,
        grpc.insecure_channel(f"127.0.0.1:{app.port}") as channel,
    ):
        yield VaeServiceStub(channel)


def row(*values: float) -> Any:
    return to_tensor(np.array([values], np.float32))


WIDE = row(0, 0, 200, 0)  # sigma is exp(100)
FAR = row(1.5e19, 1.5e19, 0, 0)  # its KL is a float64, and no float32
DRAWS = [pb.ENCODE_OUTPUT_DRAWS]
CASES: dict[str, tuple[Callable[[Stub], object], str | None]] = {
    "draws of Encode": (
        lambda s: s.Encode(
            pb.EncodeRequest(model="halves", input=WIDE, outputs=DRAWS, draws=1), timeout=10
        ),
        "input",
    ),
    "a draw of Reconstruct": (
        lambda s: s.Reconstruct(
            pb.ReconstructRequest(model="halves", input=WIDE, draw=True), timeout=10
        ),
        "input",
    ),
    "draws of Score": (
        lambda s: s.Score(pb.ScoreRequest(model="halves", input=WIDE, draws=2), timeout=10),
        "input",
    ),
    "a score": (
        lambda s: s.Score(pb.ScoreRequest(model="halves", input=FAR), timeout=10),
        "input",
    ),
    "latents of a path": (
        lambda s: s.Interpolate(
            pb.InterpolateRequest(
                model="halves",
                start=row(3.3e38, 3.3e38),
                end=row(3.3e38, -3.0e38),
                steps=3,
                space=pb.INTERPOLATION_SPACE_LATENT,
                path=pb.INTERPOLATION_PATH_SLERP,
                outputs=[pb.GENERATE_OUTPUT_LATENTS],
            ),
            timeout=10,
        ),
        None,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_overflows_is_refused(service: Stub, case: str) -> None:
    call, field = CASES[case]
    code, reason, at, _ = failure(lambda: call(service))
    assert (code, reason, at) == (grpc.StatusCode.INVALID_ARGUMENT, "NOT_FINITE", field)


def test_the_widest_posterior_that_float32_holds_is_drawn_from(service: Stub) -> None:
    request = pb.EncodeRequest(model="halves", input=row(0, 0, 80, 0), outputs=DRAWS, draws=1)
    assert service.Encode(request, timeout=10).draws.shape == [1, 1, 2]
