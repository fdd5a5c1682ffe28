"""A model of values in the thousands: exported, verified and served like any other."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from support.servers import running_app
from vaeserve import Client
from vaeserve.v1 import bundle
from vaeserve_export import export_modules
from vaeserve_export.bundling.verify import verify

LARGEST = 5000.0


class _Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(30, 256), nn.SiLU(), nn.Linear(256, 8))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu, log_var = self.body(x / LARGEST).chunk(2, dim=1)
        return mu, log_var


class _Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 512), nn.SiLU(), nn.Linear(512, 30))

    def forward(self, z: Tensor) -> Tensor:
        values: Tensor = LARGEST * self.body(z)
        return values


@pytest.fixture(scope="module")
def exported(torchlib: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("thousands")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder, decoder = _Encoder(), _Decoder()
    return export_modules(
        encoder,
        decoder,
        name="thousands",
        repository=repository,
        input_shape=(30,),
        likelihood="gaussian",
        gaussian_variance=LARGEST,
    )


def _golden(folder: Path) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    with np.load(folder / bundle.GOLDEN) as archive:
        return dict(archive)


def test_its_parity_is_of_its_range(exported: Path) -> None:
    values = np.abs(_golden(exported)["x_hat"])
    assert values.max() > 1000
    assert verify(exported).info.numerics.parity_x_hat <= 1e-5 * values.max() + 1e-4 * values.max()


@pytest.mark.parametrize("execution", ["plain", "bound"])
def test_it_is_served(exported: Path, execution: str) -> None:
    golden = _golden(exported)
    with (
        running_app(exported.parent.parent, execution=execution) as app,
        Client(f"127.0.0.1:{app.port}") as client,
    ):
        x_hat = client.model("thousands").decode(golden["z"])
    np.testing.assert_allclose(x_hat, golden["x_hat"], rtol=1e-4, atol=0.05)
