"""What serving on a CUDA device promises. Not run by default: `pytest -m gpu tests/gpu`."""

import re
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
from hypothesis import given, settings, strategies as st

from gpu_check.load import known_options
from support.repositories import ROW_SHAPES
from support.servers import ServerProcess, server_process
from vaeserve import Client

pytestmark = pytest.mark.gpu

TF32 = 1e-2  # products of 10-bit factors, several layers deep; the server's self-test has it too
REFUSED = 3
ROWS = 16

Floats = npt.NDArray[np.float32]


@pytest.fixture(params=sorted(ROW_SHAPES))
def name(request: pytest.FixtureRequest) -> str:
    """Each model in turn."""
    chosen: str = request.param
    return chosen


@pytest.fixture
def golden(cuda: Client, repository: Path, name: str) -> dict[str, Floats]:
    """What PyTorch computed on a CPU in float32."""
    del cuda  # so that nothing is trained where it would be skipped
    with np.load(repository / name / "1" / "golden.npz") as arrays:
        return {key: arrays[key][: 2 * ROWS] for key in arrays.files}


def close(got: npt.ArrayLike, wanted: Floats) -> None:
    np.testing.assert_allclose(np.asarray(got), wanted, rtol=TF32, atol=TF32)


def test_every_model_is_really_on_cuda(server: ServerProcess) -> None:
    loaded = [record for record in server.records if record["message"] == "model loaded"]
    assert {record["model"]: record["provider"] for record in loaded} == dict.fromkeys(
        ROW_SHAPES, "CUDAExecutionProvider"
    )


def test_encode_gives_the_golden_posteriors(
    cuda: Client, name: str, golden: dict[str, Floats]
) -> None:
    posterior = cuda.model(name).encode(golden["x"])
    close(posterior.mu, golden["mu"])
    close(posterior.log_var, golden["log_var"])


def test_decode_gives_the_golden_rows(cuda: Client, name: str, golden: dict[str, Floats]) -> None:
    close(cuda.model(name).decode(golden["z"]), golden["x_hat"])


def test_reconstruct_is_decode_of_encode(
    cuda: Client, name: str, golden: dict[str, Floats]
) -> None:
    """The posterior may stay on the device between the two graphs; the rows must not notice."""
    served = cuda.model(name)
    whole = np.asarray(served.reconstruct(golden["x"]))
    close(whole, np.asarray(served.decode(served.encode(golden["x"]).mu)))
    # The first half of golden z are the golden mu.
    half = min(ROWS, len(golden["x"]))
    close(whole[:half], golden["x_hat"][:half])


def test_samples_are_the_decoded_draws(cuda: Client, repository: Path, name: str) -> None:
    drawn = cuda.model(name).sample(ROWS, seed=7, latents=True)
    decoder = repository / name / "1" / "decoder.onnx"
    on_cpu = ort.InferenceSession(str(decoder), providers=["CPUExecutionProvider"])
    (wanted,) = on_cpu.run(None, {"z": np.asarray(drawn.latents)})
    close(drawn, wanted)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(2, ROWS), data=st.data())
@pytest.mark.parametrize("picked", sorted(ROW_SHAPES))
def test_neighbours_in_a_bucket_change_no_bit(
    cuda: Client, picked: str, seed: int, rows: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    some, others = rng.random((2, rows, *ROW_SHAPES[picked]), np.float32)
    place, moved = (data.draw(st.integers(0, rows - 1)) for _ in range(2))
    others[moved] = some[place]
    first, second = (cuda.model(picked).encode(batch) for batch in (some, others))
    np.testing.assert_array_equal(first.mu[place], second.mu[moved])
    np.testing.assert_array_equal(first.log_var[place], second.log_var[moved])


@pytest.mark.parametrize("picked", ["digits", "rgb"])
def test_levels_and_floats_agree(cuda: Client, picked: str) -> None:
    levels = np.random.default_rng(6).integers(0, 256, (ROWS, *ROW_SHAPES[picked]), np.uint8)
    served = cuda.model(picked)
    as_levels = served.encode(levels)
    as_floats = served.encode(levels.astype(np.float32) / np.float32(255))
    close(as_levels.mu, np.asarray(as_floats.mu))
    back = np.asarray(served.reconstruct(levels, dtype=np.uint8)).astype(np.float32)
    wanted = 255 * np.asarray(served.reconstruct(levels.astype(np.float32) / np.float32(255)))
    assert np.abs(back - wanted).max() <= 0.5 + 255 * TF32


def test_a_device_that_is_not_there_is_refused_with_those_that_are(
    device: str, repository: Path
) -> None:
    del device
    with server_process(repository, "--device", "cuda:99") as refused:
        code, errors = refused.finish()
    said = errors + " ".join(map(str, refused.records))
    assert code == REFUSED
    assert "99" in said
    assert re.search(r"cuda:0|NVIDIA", said), said


def test_too_little_memory_refuses_the_model_at_the_start(
    device: str, repository: Path, tmp_path: Path
) -> None:
    """Every bucket is warmed up, so a limit that is too small is known before anybody calls."""
    option = "--gpu-memory-limit-mb"
    if option not in known_options():
        pytest.skip(f"this server has no {option}")
    shutil.copytree(repository / "rgb", tmp_path / "rgb")
    rows = 1 << 15
    most = ("--max-rows", str(rows), "--max-queue-rows", str(2 * rows))
    with server_process(tmp_path, "--device", device, option, "8", *most) as server:
        code, errors = server.finish()
    assert code == REFUSED
    assert "memory" in errors.lower()
