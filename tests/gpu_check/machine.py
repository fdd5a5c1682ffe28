"""The device: what it is, what it could do at most, and how busy and full it is."""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from types import TracebackType
from typing import Self

import onnxruntime as ort
import torch

from gpu_check.findings import Finding, Notes
from gpu_check.parts import Setting
from gpu_check.raw import median_s

_LOOP = "--loop-ms=100"
_SMI = "nvidia-smi"
_LIBRARIES = ("nvidia-cudnn", "nvidia-cublas", "nvidia-cuda-runtime")
_SIDE, _COPY_BYTES = 8192, 1 << 30


@dataclass(frozen=True)
class Peak:
    """What a device can do at most.

    Attributes:
        float32: FLOP/s of float32 products, in TF32 where it has that, without sparsity.
        fp16: FLOP/s of float16 products, without sparsity.
        bandwidth: bytes/s of its memory.
        source: "data sheet" or "measured".
    """

    float32: float
    fp16: float
    bandwidth: float
    source: str = "data sheet"


# Data sheets, dense: TFLOP/s and GB/s. The first that is a word of the device's name counts.
_PEAKS = {
    "B200": (1100, 2250, 8000),
    "H200": (494, 989, 4800),
    "H100 PCIe": (378, 756, 2000),
    "H100 NVL": (418, 835, 3900),
    "H100": (494, 989, 3350),
    "A100-PCIE-40GB": (156, 312, 1555),
    "A100-SXM4-40GB": (156, 312, 1555),
    "A100": (156, 312, 2039),
    "L40S": (183, 362, 864),
    "L4": (60, 121, 300),
    "A10": (62, 125, 600),
    "T4": (8.1, 65, 320),
    "V100": (15.7, 125, 900),
}


def environment(setting: Setting, known: Sequence[Finding], notes: Notes) -> None:
    """The part: versions, the device and its driver."""
    del known
    done = subprocess.run(
        [sys.executable, "-m", "vaeserve", "doctor", "--json"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    report = json.loads(done.stdout)
    for name, value in report["findings"].items():
        notes.add("", name, str(value))
    notes.at_most("", "problems named by vaeserve doctor", len(report["problems"]), 0, "")
    for problem in report["problems"]:
        notes.add("", "problem", problem)
    notes.add("", "onnxruntime", ort.__version__)
    notes.add("", "torch", torch.__version__)
    notes.add("", "device name", device_name(setting))
    if not setting.on_cuda:
        return
    notes.add("", "CUDA of onnxruntime", str(getattr(ort, "cuda_version", "unknown")))
    for package in metadata.distributions():
        if package.name.startswith(_LIBRARIES):
            notes.add("", package.name, package.version)
    notes.add("", "CUDA of torch", str(torch.version.cuda))
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    notes.add("", "cuDNN of torch", str(cudnn))
    if shutil.which(_SMI):
        wanted = "driver_version,memory.total,clocks.max.sm,power.limit,compute_cap"
        values = _query(setting, wanted).split(",")
        for name, value in zip(wanted.split(","), values, strict=True):
            notes.add("", name, value.strip())
    peak = peak_of(setting)
    assert peak is not None
    notes.add("", f"float32 peak, {peak.source}", peak.float32 / 1e12, "TFLOP/s")
    notes.add("", f"fp16 peak, {peak.source}", peak.fp16 / 1e12, "TFLOP/s")
    notes.add("", f"memory bandwidth, {peak.source}", peak.bandwidth / 1e9, "GB/s")


def device_name(setting: Setting) -> str:
    """As the driver calls it; "cpu" where there is none."""
    if not setting.on_cuda:
        return "cpu"
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(setting.index)
    return _query(setting, "name")


def peak_of(setting: Setting) -> Peak | None:
    """From the table, else measured; None of a CPU."""
    if not setting.on_cuda:
        return None
    name = device_name(setting)
    for part, (float32, fp16, bandwidth) in _PEAKS.items():
        if re.search(rf"\b{part}\b", name):
            return Peak(float32 * 1e12, fp16 * 1e12, bandwidth * 1e9)
    return _measured(torch.device("cuda", setting.index))


def _measured(device: torch.device) -> Peak:
    """One big product in each precision, and one big copy."""
    torch.set_float32_matmul_precision("high")

    def seconds(work: Callable[[], object]) -> float:
        def run() -> None:
            work()
            torch.cuda.synchronize(device)

        return median_s(run, 0.3)

    found = dict[torch.dtype, float]()
    for dtype in (torch.float32, torch.float16):
        a = torch.rand(_SIDE, _SIDE, device=device, dtype=dtype)
        found[dtype] = 2 * _SIDE**3 / seconds(lambda a=a: a @ a)  # type: ignore[misc]
    source = torch.zeros(_COPY_BYTES, dtype=torch.uint8, device=device)
    bandwidth = 2 * _COPY_BYTES / seconds(source.clone)  # read and written
    return Peak(found[torch.float32], found[torch.float16], bandwidth, "measured")


class Gauge:
    """Samples a device while it is open; without nvidia-smi, or on a CPU, it has none.

    Utilisation is the driver's: the share of time in which a kernel ran.
    """

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._process: subprocess.Popen[bytes] | None = None
        self._samples = list[float]()

    def __enter__(self) -> Self:
        if self._setting.on_cuda and shutil.which(_SMI):
            self._file = tempfile.TemporaryFile()  # closed in __exit__
            self._process = subprocess.Popen(
                [*_query_command(self._setting, "utilization.gpu"), _LOOP],
                stdout=self._file,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is None:
            return
        self._process.terminate()
        self._process.wait()
        with self._file as file:
            file.seek(0)
            # The last line may be cut.
            lines = file.read().decode().splitlines()[:-1]
        # A part of a divided device has none: [N/A].
        self._samples = [float(line) for line in lines if line.strip().isdigit()]

    @property
    def busy_percent(self) -> float | None:
        """Median of what was sampled between the first and last quarter."""
        inner = self._samples[len(self._samples) // 4 : -(len(self._samples) // 4) or None]
        return statistics.median(inner) if inner else None


def device_memory_mb(setting: Setting) -> float | None:
    """What all processes hold on the device now; None where nvidia-smi is not there."""
    if not shutil.which(_SMI):
        return None
    return float(_query(setting, "memory.used"))


def _query(setting: Setting, field: str) -> str:
    command = _query_command(setting, field)
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def _query_command(setting: Setting, fields: str) -> list[str]:
    shape = "--format=csv,noheader,nounits"
    return [_SMI, f"--query-gpu={fields}", shape, f"--id={_id(setting)}"]


def _id(setting: Setting) -> str:
    """How nvidia-smi calls the device: it does not know of CUDA_VISIBLE_DEVICES."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[setting.index] if visible else str(setting.index)
