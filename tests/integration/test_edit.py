"""Edit moves latents along the bundle's directions, and decodes what it moved."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest
import torch

from support.failures import failure
from support.repositories import ATTRIBUTES
from support.servers import running_app
from vaeserve.v1 import bundle, vae_service_pb2 as pb
from vaeserve.v1.arrays import UINT8, from_tensor, to_tensor
from vaeserve.v1.vae_service_pb2_grpc import VaeServiceStub
from vaeserve_export.training.run import load_model
from vaeserve_export.vae.model import Vae
from vaeserve_server.app import App

Floats = npt.NDArray[np.float32]
BOTH = (pb.GENERATE_OUTPUT_X_HAT, pb.GENERATE_OUTPUT_LATENTS)
AMOUNTS = {"smile": 1.5, "glasses": -1.0}


@pytest.fixture(params=["plain", "bound"])
def execution(request: pytest.FixtureRequest) -> str:
    """How graphs are run: as CPUs do, and as GPUs do."""
    return str(request.param)


@pytest.fixture
def address(request: pytest.FixtureRequest, execution: str) -> str:
    app: App = request.getfixturevalue("bound_app" if execution == "bound" else "app")
    return f"127.0.0.1:{app.port}"


@pytest.fixture
def stub(address: str) -> Iterator[VaeServiceStub]:
    with grpc.insecure_channel(address) as channel:
        yield VaeServiceStub(channel)


@pytest.fixture
def x() -> Floats:
    return np.random.default_rng(2).random((9, 1, 8, 8), np.float32)


@pytest.fixture
def vae(repository: Path) -> Vae:
    return load_model(repository.parent / "runs" / "digits")


@pytest.fixture
def directions(repository: Path) -> dict[str, Floats]:
    with np.load(repository / "digits" / "1" / bundle.ATTRIBUTES) as archive:
        return dict(zip(ATTRIBUTES, archive["directions"], strict=True))


def edited(stub: VaeServiceStub, **fields: Any) -> tuple[Floats, Floats]:
    """x_hat and latents."""
    reply = stub.Edit(pb.EditRequest(model="digits", outputs=BOTH, **fields))
    assert (reply.version, len(reply.latent_space_id)) == (1, 32)
    x_hat, z = (np.asarray(from_tensor(part)) for part in (reply.x_hat, reply.latents))
    return x_hat.astype(np.float32), z.astype(np.float32)


def test_from_the_mean_of_a_row(
    stub: VaeServiceStub, vae: Vae, directions: dict[str, Floats], x: Floats
) -> None:
    x_hat, z = edited(stub, input=to_tensor(x), amounts=AMOUNTS)
    with torch.no_grad():
        mu = vae.encoder(torch.from_numpy(x))[0].numpy()
        expected = mu + 1.5 * directions["smile"] - directions["glasses"]
        decoded = vae.decoder(torch.from_numpy(expected)).numpy()
    np.testing.assert_allclose(z, expected, atol=1e-5)
    np.testing.assert_allclose(x_hat, decoded, atol=1e-5)


def test_of_latents(stub: VaeServiceStub, directions: dict[str, Floats]) -> None:
    z = np.random.default_rng(3).normal(size=(4, 20)).astype(np.float32)
    there = edited(stub, latents=to_tensor(z), amounts={"hat": 2.0})[1]
    np.testing.assert_allclose(there - z, np.tile(2 * directions["hat"], (4, 1)), atol=1e-5)
    back = edited(stub, latents=to_tensor(there), amounts={"hat": -2.0})[1]
    np.testing.assert_allclose(back, z, atol=1e-5)


def test_what_is_preserved_stays(
    stub: VaeServiceStub, directions: dict[str, Floats], x: Floats
) -> None:
    still = edited(stub, input=to_tensor(x))[1]
    move = edited(stub, input=to_tensor(x), amounts=AMOUNTS)[1] - still
    assert np.abs(move @ directions["hat"]).min() > 0.1
    kept = edited(stub, input=to_tensor(x), amounts=AMOUNTS, preserve=["hat"])[1] - still
    np.testing.assert_allclose(kept @ directions["hat"], 0, atol=1e-4)


def test_nothing_to_move_is_a_reconstruction(stub: VaeServiceStub, x: Floats) -> None:
    reconstructed = stub.Reconstruct(pb.ReconstructRequest(model="digits", input=to_tensor(x)))
    for amounts in ({}, {"smile": 0.0}):
        reply = stub.Edit(pb.EditRequest(model="digits", input=to_tensor(x), amounts=amounts))
        assert reply.x_hat == reconstructed.x_hat
        assert not reply.HasField("latents")


def test_levels_there_and_back(stub: VaeServiceStub) -> None:
    levels = np.random.default_rng(6).integers(0, 256, (3, 1, 8, 8), np.uint8)
    values = levels.astype(np.float32) / np.float32(255)
    floats, _ = edited(stub, input=to_tensor(values), amounts=AMOUNTS)
    reply = stub.Edit(
        pb.EditRequest(model="digits", input=to_tensor(levels), amounts=AMOUNTS, x_hat_dtype=UINT8)
    )
    got = from_tensor(reply.x_hat)
    assert got.dtype == np.uint8
    assert np.abs(got.astype(np.float32) - 255 * floats).max() <= 0.5 + 1e-4


def test_the_same_bits_alone_and_in_parts(
    stub: VaeServiceStub, repository: Path, execution: str, x: Floats
) -> None:
    fields: dict[str, Any] = {"amounts": AMOUNTS, "preserve": ["hat"]}
    whole = edited(stub, input=to_tensor(x), **fields)
    rows = [edited(stub, input=to_tensor(x[row : row + 1]), **fields) for row in range(9)]
    with (
        running_app(repository, execution=execution, max_rows=9, transport="standard") as other,
        grpc.insecure_channel(f"127.0.0.1:{other.port}") as channel,
    ):
        elsewhere = edited(VaeServiceStub(channel), input=to_tensor(x), **fields)
    for number, values in enumerate(whole):
        np.testing.assert_array_equal(np.concatenate([row[number] for row in rows]), values)
        np.testing.assert_array_equal(elsewhere[number], values)


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"amounts": {"smlie": 1.0}}, "amounts", "'smlie'; there is: glasses, hat, smile"),
        ({"preserve": ["age"]}, "preserve", "'age'; there is: glasses, hat, smile"),
        ({"amounts": {"hat": 101.0}}, "amounts", "amount 101 of 'hat' is outside -100..100"),
        ({"amounts": {"hat": np.nan}}, "amounts", "outside"),
        ({"amounts": {"hat": 1.0}, "preserve": ["hat"]}, "preserve", "nothing is left of 'hat'"),
        ({"outputs": [7]}, "outputs", "unknown output"),
    ],
)
def test_refusals_name_the_field(
    stub: VaeServiceStub, x: Floats, fields: dict[str, Any], field: str, words: str
) -> None:
    request = pb.EditRequest(model="digits", input=to_tensor(x), **fields)
    _, _, at_fault, message = failure(lambda: stub.Edit(request))
    assert at_fault == field
    assert words in message


def test_neither_input_nor_latents(stub: VaeServiceStub) -> None:
    request = pb.EditRequest(model="digits", amounts=AMOUNTS)
    _, reason, field, message = failure(lambda: stub.Edit(request))
    assert (reason, field, message) == ("INVALID_OPTION", "input", "set input or latents")
