"""A server that runs graphs as GPUs do, on the CPU: what callers and operators see of it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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
    assert change('vaeserve_reconstruction_nats_count{model="digits"}') == 5  # those through mu
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


_LOST = """
import threading
from vaeserve_server import app, bound_engine, loading
from vaeserve_server.engine import EngineLostError

meet = threading.Barrier({parties})

def lost(*_, **__):
    meet.wait(30)
    raise EngineLostError("CUDA failure 700: an illegal memory access was encountered")
"""
_LOST_AT_WORK = (
    _LOST.format(parties=2)
    + """
made = loading.load_catalogue

def load(*args, **options):
    catalogue = made(*args, **options)
    bound_engine.BoundSlot.run = lost
    return catalogue

app.load_catalogue = load
"""
)
_LOST_AT_THE_START = _LOST.format(parties=1) + "bound_engine.BoundSlot.run = lost\n"


def test_a_lost_device_ends_the_process_with_a_code_of_its_own(repository: Path) -> None:
    """Also when several graphs find it lost at once."""
    options = ("--execution", "bound", "--drain-delay", "60", "--placement", "thread")
    with server_process(repository, *options, before=_LOST_AT_WORK) as server:
        address = server.wait_for("ready")["address"]
        with Client(address, retries=False) as client, ThreadPoolExecutor() as callers:
            model = client.model("digits")
            for answer in (
                callers.submit(model.sample, 1),
                callers.submit(model.encode, levels(model, 1)),
            ):
                with pytest.raises(Unavailable, match="device has failed"):
                    answer.result()
        code, _ = server.finish()
    assert code == 5
    died = [record["level"] for record in server.records if record["message"] == "batcher died"]
    assert died == ["CRITICAL", "CRITICAL"]


def test_a_device_lost_while_loading_is_no_fault_of_a_bundle(repository: Path) -> None:
    with server_process(repository, "--execution", "bound", before=_LOST_AT_THE_START) as server:
        code, _ = server.finish()
    assert code == 5
    assert not [record for record in server.records if record["message"] == "refused"]
