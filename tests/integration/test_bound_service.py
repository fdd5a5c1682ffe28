"""A server that runs graphs as GPUs do, on the CPU: what callers and operators see of it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from support.servers import running_app, series, server_process
from vaeserve import Client, Model, Unavailable
from vaeserve_server.app import App

PICTURES = ("digits", "rgb")


@pytest.fixture
def models(app: App, bound_app: App) -> Iterator[dict[str, tuple[Model, Model]]]:
    """By name, of a server that runs graphs as CPUs do and of one that does as GPUs do."""
    addresses = [f"127.0.0.1:{each.port}" for each in (app, bound_app)]
    with Client(addresses[0]) as plain, Client(addresses[1]) as bound:
        yield {name: (plain.model(name), bound.model(name)) for name in (*PICTURES, "vectors")}


def levels(
    model: Model, rows: int, seed: int = 0
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    shape = (rows, *model.info.input_shape)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("rows", [1, 5, 200])
def test_levels_in_and_out(models: dict[str, tuple[Model, Model]], name: str, rows: int) -> None:
    """Converted on the device: the same posteriors, and pictures to a level at most."""
    plain, bound = models[name]
    x = levels(plain, rows)
    posterior, expected = bound.encode(x), plain.encode(x)
    np.testing.assert_allclose(posterior.mu, expected.mu, atol=1e-5)
    np.testing.assert_allclose(posterior.log_var, expected.log_var, atol=1e-5)
    z, kind = expected.mu, np.uint8
    pairs = [
        (model.decode(z, dtype=kind), model.sample(rows, seed=3, dtype=kind).pictures)
        for model in models[name]
    ]
    for ours, theirs in zip(*pairs, strict=True):
        assert ours.dtype == theirs.dtype == np.uint8
        assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1


def test_a_chain_counts_what_its_steps_would_have(repository: Path) -> None:
    """The latent health and the rows of a reconstruction; padding is told apart."""
    with (
        running_app(repository, execution="bound") as app,
        Client(f"127.0.0.1:{app.port}") as client,
    ):
        before = series(app)
        model = client.model("digits")
        model.reconstruct(levels(model, 5))
        model.reconstruct(levels(model, 3), draw=True, seed=1)
        now = series(app)

    def change(name: str) -> float:
        return now[name] - before.get(name, 0.0)

    graph = '{graph="chain",model="digits"}'
    assert change(f"vaeserve_rows_total{graph}") == 8
    assert change(f"vaeserve_batch_padding_rows_sum{graph}") == 3 + 1
    assert change('vaeserve_kl_nats_count{model="digits"}') == 8
    assert change('vaeserve_reconstruction_nats_count{model="digits"}') == 8
    assert change('vaeserve_rows_total{graph="encoder",model="digits"}') == 0
    assert before['vaeserve_kl_nats_count{model="digits"}'] == 0  # the warm-up's are nobody's


def test_deterministic_rows_are_the_same_bits_in_any_company(repository: Path) -> None:
    settings = {"execution": "bound", "deterministic": True, "max_rows": 16}
    with running_app(repository, **settings) as app, Client(f"127.0.0.1:{app.port}") as client:
        for name in (*PICTURES, "vectors"):
            model = client.model(name)
            x = np.random.default_rng(1).random((16, *model.info.input_shape), np.float32)
            together = model.encode(x).mu
            alone = np.concatenate([model.encode(x[row : row + 1]).mu for row in range(16)])
            np.testing.assert_array_equal(together, alone)
        padding = series(app)['vaeserve_batch_padding_rows_sum{graph="encoder",model="digits"}']
    assert padding == 16 * 15


_LOSE_THE_DEVICE = """
from vaeserve_server import binding, loading

def lost(*_):
    raise binding.EngineLostError("CUDA failure 700: an illegal memory access was encountered")

made = loading.load_catalogue

def load(*args, **options):
    catalogue = made(*args, **options)
    binding.Bound.run = lost
    return catalogue

import vaeserve_server.app
vaeserve_server.app.load_catalogue = load
"""


def test_a_lost_device_ends_the_process_with_a_code_of_its_own(repository: Path) -> None:
    options = ("--execution", "bound", "--drain-delay", "60")
    with server_process(repository, *options, before=_LOSE_THE_DEVICE) as server:
        address = server.wait_for("ready")["address"]
        with (
            Client(address, retries=False) as client,
            pytest.raises(Unavailable, match="device has failed"),
        ):
            client.model("digits").sample(1)
        code, _ = server.finish()
    assert code == 5
    assert [r["level"] for r in server.records if r["message"] == "batcher died"] == ["CRITICAL"]
