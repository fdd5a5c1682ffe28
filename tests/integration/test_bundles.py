"""What is no sound bundle is refused with its reason and never becomes ready."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grpc_health.v1 import health_pb2

from support.health import health_of
from support.servers import running_app, server_process
from vaeserve import Client
from vaeserve.v1 import bundle
from vaeserve_server.errors import StartupError

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

Damage = Callable[[Path], object]


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "model.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def flip_byte(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)


def list_file(folder: Path, name: str) -> None:
    edit_manifest(
        folder, lambda manifest: manifest["files"].append({"name": name, "sha256": "0" * 64})
    )


def link_outside(folder: Path) -> None:
    outside = folder.parent / "elsewhere.onnx"
    (folder / "encoder.onnx").rename(outside)
    (folder / "encoder.onnx").symlink_to(outside)


def swap_graphs(folder: Path) -> None:
    def swap(manifest: dict[str, Any]) -> None:
        manifest["encoder"]["file"], manifest["decoder"]["file"] = "decoder.onnx", "encoder.onnx"

    edit_manifest(folder, swap)


DAMAGES: dict[str, tuple[Damage, str]] = {
    "flipped byte, encoder": (
        lambda folder: flip_byte(folder, "encoder.onnx"),
        "encoder.onnx: differs from its digest",
    ),
    "flipped byte, decoder": (
        lambda folder: flip_byte(folder, "decoder.onnx"),
        "decoder.onnx: differs from its digest",
    ),
    "flipped byte, golden rows": (
        lambda folder: flip_byte(folder, "golden.npz"),
        "golden.npz: differs from its digest",
    ),
    "missing file": (
        lambda folder: (folder / "decoder.onnx").unlink(),
        "decoder.onnx: cannot be read: No such file",
    ),
    "missing manifest": (
        lambda folder: (folder / "model.json").unlink(),
        "model.json: cannot be read",
    ),
    "manifest is no JSON": (
        lambda folder: (folder / "model.json").write_text("{"),
        "model.json: is no manifest",
    ),
    "unknown field": (
        lambda folder: edit_manifest(folder, lambda manifest: manifest.update(surprise=1)),
        "model.json: is no manifest",
    ),
    "later format": (
        lambda folder: edit_manifest(folder, lambda manifest: manifest.update(format_version=9)),
        "format_version 9",
    ),
    "another model's": (
        lambda folder: edit_manifest(folder, lambda manifest: manifest.update(name="other")),
        "its manifest is of other/1",
    ),
    "path outside": (
        lambda folder: list_file(folder, "../../secret"),
        "'../../secret' lies outside",
    ),
    "absolute path": (
        lambda folder: list_file(folder, "/etc/passwd"),
        "'/etc/passwd' lies outside",
    ),
    "link outside": (link_outside, "'encoder.onnx' lies outside"),
    "swapped graphs": (swap_graphs, "latent_space_id is not that of its two graphs"),
    "no likelihood": (
        lambda folder: edit_manifest(folder, lambda manifest: manifest.pop("likelihood")),
        "likelihood must be Bernoulli, continuous Bernoulli or Gaussian",
    ),
    "Gaussian without variance": (
        lambda folder: edit_manifest(
            folder, lambda manifest: manifest.update(likelihood="LIKELIHOOD_GAUSSIAN")
        ),
        "gaussian_variance 0.0 must be above 0",
    ),
    "levels without scale": (
        lambda folder: edit_manifest(
            folder, lambda manifest: manifest.update(preprocessing={"scale": 0})
        ),
        "preprocessing.scale 0.0 must be above 0",
    ),
    "empty rows": (
        lambda folder: edit_manifest(folder, lambda manifest: manifest.update(input_shape=["0"])),
        "input_shape [0] must be positive",
    ),
    "name with a NUL byte": (
        lambda folder: list_file(folder, "a\0b"),
        "lies outside",
    ),
    "unlisted file": (
        lambda folder: edit_manifest(folder, lambda manifest: manifest["files"].pop(0)),
        "does not list",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_bundle_is_refused(own_repository: Path, damage: str) -> None:
    inflict, reason = DAMAGES[damage]
    inflict(own_repository / "digits" / "1")
    with pytest.raises(StartupError) as refusal, running_app(own_repository):
        pass
    assert reason in str(refusal.value)


def rewrite(folder: Path, file: str, **changes: Any) -> None:
    """Change arrays of an .npz file, and seal the bundle again."""
    with np.load(folder / file) as archive:
        arrays = {**archive, **changes}
    np.savez(folder / file, **arrays)
    info = bundle.read_manifest(folder)
    for entry in info.files:
        entry.CopyFrom(bundle.digest(entry.name, (folder / entry.name).read_bytes()))
    bundle.write_manifest(folder, info)


SEALED_FAULTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "another mu": ("golden.npz", {"mu": np.zeros((256, 20), np.float32)}, "self-test failed: mu"),
    "no rows": (
        "golden.npz",
        {
            "x": np.zeros((0, 1, 8, 8), np.float32),
            "z": np.zeros((0, 20), np.float32),
            "mu": np.zeros((0, 20), np.float32),
            "log_var": np.zeros((0, 20), np.float32),
            "x_hat": np.zeros((0, 1, 8, 8), np.float32),
        },
        "golden.npz: holds no rows",
    ),
    "rows of another shape": ("golden.npz", {"x": np.zeros((4, 3), np.float32)}, "digits/2: "),
    "ragged calibration": (
        "calibration.npz",
        {"percent": np.arange(3.0)},
        "digits/2: calibration.npz: kl_nats is float64 [101], by the manifest it is float64 [3]",
    ),
    "weights that are no weights": (
        "prior.npz",
        {"weights": np.full(3, 0.5)},
        "digits/2: prior.npz: weights must be positive and sum to 1",
    ),
    "factors that are no factors": (
        "prior.npz",
        {"cholesky": np.ones((3, 20, 20))},
        "digits/2: prior.npz: cholesky must be lower triangular with a positive diagonal",
    ),
    "means that are no numbers": (
        "prior.npz",
        {"means": np.full((3, 20), np.nan)},
        "digits/2: prior.npz: means holds NaN or infinite values",
    ),
    "a direction too few": (
        "attributes.npz",
        {"directions": np.ones((2, 20), np.float32)},
        "digits/2: attributes.npz: directions is float32 [2, 20], by the manifest it is float32 "
        "[3, 20]",
    ),
}


@pytest.mark.parametrize("fault", SEALED_FAULTS)
def test_a_sealed_bundle_that_does_not_work_is_refused_alone(
    own_repository: Path, fault: str
) -> None:
    shutil.copytree(own_repository / "digits" / "1", own_repository / "digits" / "2")
    later = own_repository / "digits" / "2"
    edit_manifest(later, lambda manifest: manifest.update(version="2"))
    file, changes, reason = SEALED_FAULTS[fault]
    rewrite(later, file, **changes)
    with running_app(own_repository) as app, Client(f"127.0.0.1:{app.port}") as client:
        (state,) = client.models()
        assert (state.version, state.ready) == (1, True)
        assert reason in state.problem


def test_the_process_says_why_and_ends(own_repository: Path) -> None:
    flip_byte(own_repository / "digits" / "1", "encoder.onnx")
    with server_process(own_repository) as server:
        code, err = server.finish()
    assert code == 3
    assert "encoder.onnx: differs from its digest" in err
    assert "Traceback" not in err
    assert not any(record["message"] == "ready" for record in server.records)


@pytest.mark.parametrize("content", ["nothing", "no versions", "no folder"])
def test_an_empty_repository_says_so(tmp_path: Path, content: str) -> None:
    repository = tmp_path / "repository"
    if content != "no folder":
        repository.mkdir()
    if content == "no versions":
        (repository / "digits").mkdir()
    with pytest.raises(StartupError), running_app(repository):
        pass


def test_one_bad_model_leaves_the_others_served_and_the_service_not_ready(
    own_repository: Path,
) -> None:
    shutil.copytree(own_repository / "digits", own_repository / "broken")
    with running_app(own_repository) as app:
        address = f"127.0.0.1:{app.port}"
        with Client(address) as client:
            broken, digits = client.models()
            assert client.model("digits").sample(1).shape == (1, 1, 8, 8)
        assert (digits.version, digits.ready, digits.problem) == (1, True, "")
        assert (broken.version, broken.ready) == (0, False)
        assert "its manifest is of digits/1" in broken.problem
        assert health_of(address, "") == SERVING
        assert health_of(address, "models/digits") == SERVING
        assert health_of(address, "models/broken") == NOT_SERVING
        assert health_of(address, "vaeserve.v1.VaeService") == NOT_SERVING


def test_the_highest_loadable_version_is_served(own_repository: Path) -> None:
    first = own_repository / "digits" / "1"
    for version in (2, 10, 11):
        later = shutil.copytree(first, first.parent / str(version))
        edit_manifest(later, lambda manifest, v=version: manifest.update(version=str(v)))  # type: ignore[misc]  # bound now
    flip_byte(first.parent / "11", "decoder.onnx")
    for name in (".12.part", "12.bak", "013"):
        (first.parent / name).mkdir()
    (own_repository / "lost+found").mkdir()
    with running_app(own_repository) as app, Client(f"127.0.0.1:{app.port}") as client:
        (state,) = client.models()
        assert (state.version, state.ready) == (10, True)
        assert "11/decoder.onnx: differs" in state.problem
        assert client.model("digits").info.version == 10
        assert health_of(f"127.0.0.1:{app.port}", "vaeserve.v1.VaeService") == SERVING
