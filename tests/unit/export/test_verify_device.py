"""Verifying on a device: what is measured, recorded and told.

Without a GPU a CPU session stands in where a CUDA session is asked for.
"""

import ctypes
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from click.testing import Result

from vaeserve.v1 import bundle
from vaeserve_export.bundling.verify import verify
from vaeserve_export.bundling.verify_parity import Floats
from vaeserve_export.bundling.verify_sessions import CUDA, device_name
from vaeserve_export.errors import VerifyError


class StandIn:
    """ONNX Runtime with CUDA: its sessions run on the CPU, and TF32 rounds by a fixed amount."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened: list[dict[str, Any]] = []
        self.gets: str = CUDA
        self._real = ort.InferenceSession
        monkeypatch.setattr(ort, "InferenceSession", self._session)
        monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA])

    def _session(
        self,
        model: bytes,
        options: ort.SessionOptions,
        providers: list[tuple[str, dict[str, Any]]],
        enable_fallback: int,
    ) -> Any:
        ((provider, given),) = providers
        assert not enable_fallback
        on_one_thread = ort.SessionOptions()
        on_one_thread.intra_op_num_threads = 1
        session = self._real(model, on_one_thread, providers=["CPUExecutionProvider"])
        if provider != CUDA:
            return session
        assert options.get_session_config_entry("session.disable_cpu_ep_fallback") == "1"
        self.opened.append(given)
        shift = np.float32(given["use_tf32"] * 2.0**-10)

        class Cuda:
            def run(self, names: list[str], feeds: dict[str, Floats]) -> list[Floats]:
                return [output + shift for output in session.run(names, feeds)]

            def get_providers(_) -> list[str]:  # noqa: N805  the stand-in is `self` here
                return [self.gets]

        return Cuda()


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    return StandIn(monkeypatch)


def test_a_device_is_measured_without_tf32_and_with_it(folder: Path, cuda: StandIn) -> None:
    before = bundle.read_manifest(folder)

    result = verify(folder, "cuda:1")

    assert [options["use_tf32"] for options in cuda.opened] == [0, 0, 1, 1]
    for options in cuda.opened:
        assert (options["device_id"], options["cudnn_conv_algo_search"]) == (1, "HEURISTIC")
    assert result.recorded
    info = bundle.read_manifest(folder)
    assert list(info.device_numerics) == result.on_device
    exact, rounded = info.device_numerics
    assert (exact.tf32, rounded.tf32) == (False, True)
    assert exact.provider == CUDA
    assert exact.onnxruntime_version == ort.__version__
    assert exact.cpu_difference == exact.across_buckets_difference == 0
    assert rounded.cpu_difference == pytest.approx(2.0**-10, rel=1e-2)
    assert rounded.within_bucket_difference == 0
    assert info.numerics == before.numerics

    sealed = (folder / bundle.MANIFEST).read_bytes()
    assert verify(folder, "cuda:1").recorded
    assert (folder / bundle.MANIFEST).read_bytes() == sealed


def test_figures_said_to_be_zero_are_in_the_file(folder: Path, cuda: StandIn) -> None:
    verify(folder, "cuda")
    written = json.loads((folder / bundle.MANIFEST).read_text())["device_numerics"]
    assert written[0]["tf32"] is False
    assert written[0]["within_bucket_difference"] == 0


def test_entries_of_this_device_are_replaced_and_others_kept(folder: Path, cuda: StandIn) -> None:
    info = bundle.read_manifest(folder)
    info.device_numerics.add(device="NVIDIA L4", tf32=True, rows=1)
    info.device_numerics.add(device=CUDA, tf32=True, rows=1)
    bundle.write_manifest(folder, info)

    verify(folder, "cuda")

    entries = bundle.read_manifest(folder).device_numerics
    assert [(entry.device, entry.tf32, entry.rows) for entry in entries] == [
        (CUDA, False, 256),
        (CUDA, True, 256),
        ("NVIDIA L4", True, 1),
    ]


def test_verifying_on_the_cpu_leaves_them_alone(folder: Path, cuda: StandIn) -> None:
    verify(folder, "cuda")
    measured = bundle.read_manifest(folder).device_numerics
    result = verify(folder)
    assert result.on_device == []
    assert bundle.read_manifest(folder).device_numerics == measured


def test_what_fails_on_the_device_is_not_recorded(
    folder: Path, cuda: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (folder / bundle.MANIFEST).read_bytes()
    cuda.gets = "CPUExecutionProvider"
    with pytest.raises(
        VerifyError, match=r"encoder\.onnx: runs on CPUExecutionProvider, not on CUDA.* doctor"
    ):
        verify(folder, "cuda")
    assert (folder / bundle.MANIFEST).read_bytes() == before


def test_the_command_tells_the_figures(
    folder: Path, cuda: StandIn, run_command: Callable[..., Result]
) -> None:
    lines = run_command("verify", folder, "--device", "cuda:0").stdout.splitlines()
    told = {line[:18].strip(): line[18:] for line in lines}
    assert told["device"] == f"{CUDA}, {CUDA} {ort.__version__}"
    assert told["TF32 off, rows"] == "0 within a bucket, 0 across buckets, 0 from the CPU"
    assert told["TF32 on, rows"].startswith("0 within a bucket, 0 across buckets, 0.00098 from")
    assert told["TF32 on, parity"].startswith("0.00098 / 0.00098 / 0.00098")
    assert told["manifest"] == "figures recorded"


def test_cuda_without_cuda_says_what_to_install(folder: Path, refused: Callable[..., str]) -> None:
    line = refused("verify", folder, "--device", "cuda:0")
    assert "--device cuda:0: this onnxruntime" in line
    assert "install vaeserve[gpu,train] in an environment without the package onnxruntime" in line


@pytest.mark.parametrize("device", ["", "auto", "gpu", "cuda:", "cuda:x", "cuda:0,1", "cuda:-1"])
def test_a_device_that_is_none(folder: Path, refused: Callable[..., str], device: str) -> None:
    line = refused("verify", folder, "--device", device)
    assert f"--device {device}: use cpu, cuda or cuda:N" in line


class Driver:
    """NVIDIA's driver with one device."""

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return flags

    def cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        return 0 if index == 0 else 101  # CUDA_ERROR_INVALID_DEVICE

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:  # noqa: N802
        name.value = b"NVIDIA H200"[: size - 1]
        return 0


def test_a_device_is_called_what_its_driver_calls_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: Driver())
    assert device_name(0) == "NVIDIA H200"
    assert device_name(1) == CUDA


def test_without_a_driver_it_is_called_by_its_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert device_name(0) == CUDA


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["digits", "rgb", "vectors"])
def test_a_gpu_keeps_the_contract(repository: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(repository / name / "1", tmp_path / name / "1")
    exact, rounded = verify(folder, "cuda:0").on_device
    assert exact.device != CUDA
    assert exact.within_bucket_difference == rounded.within_bucket_difference == 0
    assert exact.parity_x_hat <= 1e-4
