"""A real server with fp16, int8 and somebody's own modules, which have no training figures."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from support.modules import INPUT_SHAPE, LATENT_SHAPE, conv_pair
from support.servers import running_app
from vaeserve import Client
from vaeserve.v1 import bundle
from vaeserve_export import export_modules, npz
from vaeserve_server.errors import StartupError

TOLERANCE = {"digits-fp16": 2e-3, "digits-int8": 0.2, "mine": 1e-5}
PRECISION = {"digits-fp16": "float16", "digits-int8": "int8", "mine": "float32"}


@pytest.fixture(scope="module")
def models(precisions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "repository"
    shutil.copytree(precisions, folder)
    export_modules(
        *conv_pair(),
        name="mine",
        repository=folder,
        input_shape=INPUT_SHAPE,
        likelihood="bernoulli",
        preprocessing=(1 / 16, 0),
    )
    return folder


@pytest.fixture(scope="module")
def connected(models: Path) -> Iterator[Client]:
    with running_app(models) as app, Client(f"127.0.0.1:{app.port}") as client:
        yield client


@pytest.mark.parametrize("name", sorted(TOLERANCE))
def test_answers_are_the_golden_rows(connected: Client, models: Path, name: str) -> None:
    model = connected.model(name)
    with np.load(models / name / "1" / bundle.GOLDEN) as golden:
        rows = {array: golden[array][:50] for array in golden.files}
    encoding = model.encode(rows["x"])
    np.testing.assert_allclose(encoding.mu, rows["mu"], atol=TOLERANCE[name])
    np.testing.assert_allclose(encoding.log_var, rows["log_var"], atol=TOLERANCE[name])
    x_hat = model.decode(rows["z"])
    np.testing.assert_allclose(x_hat, rows["x_hat"], atol=TOLERANCE[name])


@pytest.mark.parametrize("name", sorted(TOLERANCE))
def test_a_rows_bits_do_not_depend_on_its_neighbours(
    connected: Client, models: Path, name: str
) -> None:
    model = connected.model(name)
    with np.load(models / name / "1" / bundle.GOLDEN) as golden:
        x = golden["x"][:9]
    together = model.encode(x).mu
    alone = np.concatenate([model.encode(row[None]).mu for row in x])
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("name", sorted(TOLERANCE))
def test_model_info_tells_the_precision(connected: Client, name: str) -> None:
    info = connected.model(name).info
    assert info.precision == PRECISION[name]
    assert bool(info.manifest.precision_cost_nats) == (name != "mine")


def test_modules_of_a_users_own_are_served_with_all_their_axes(connected: Client) -> None:
    model = connected.model("mine")
    info = model.info
    assert info.latent_shape == LATENT_SHAPE
    assert not info.manifest.HasField("training")
    assert model.sample(3, seed=1).pictures.shape == (3, *INPUT_SHAPE)
    levels = np.full((2, *INPUT_SHAPE), 16, np.uint8)
    assert model.encode(levels).mu.shape == (2, *LATENT_SHAPE)
    assert model.reconstruct(levels).shape == (2, *INPUT_SHAPE)


@pytest.mark.parametrize("name", ["digits-fp16", "digits-int8"])
def test_graphs_further_off_than_their_precision_are_not_served(
    precisions: Path, tmp_path: Path, name: str
) -> None:
    folder = Path(shutil.copytree(precisions / name, tmp_path / name)) / "1"
    with np.load(folder / bundle.GOLDEN) as archive:
        golden = dict(archive)
    golden["mu"][0] += np.float32(0.5)
    content = npz.to_bytes(golden)
    (folder / bundle.GOLDEN).write_bytes(content)
    info = bundle.read_manifest(folder)
    for entry in info.files:
        if entry.name == bundle.GOLDEN:
            entry.CopyFrom(bundle.digest(bundle.GOLDEN, content))
    bundle.write_manifest(folder, info)
    with pytest.raises(StartupError, match="self-test failed: mu differs"), running_app(tmp_path):
        pass
