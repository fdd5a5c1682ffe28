"""Where graphs run: what `--device` means on this machine."""

import os
from dataclasses import dataclass

# ONNX Runtime reports its use to its maker, from its import on, unless told not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

from vaeserve_server.errors import StartupError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"


@dataclass(frozen=True)
class Device:
    """Where graphs run.

    Attributes:
        provider: ONNX Runtime's name of the provider.
        index: number of the CUDA device; 0 on CPU.
        may_fall_back: whether the CPU will do where the device cannot be had.
    """

    provider: str
    index: int = 0
    may_fall_back: bool = False

    @property
    def on_cuda(self) -> bool:
        """Whether this is a GPU."""
        return self.provider == CUDA


def available_providers() -> list[str]:
    """Names of the providers that this build of ONNX Runtime has."""
    return list(ort.get_available_providers())


def choose_devices(wanted: str) -> tuple[Device, ...]:
    """Read `--device`.

    Args:
        wanted: `cpu`, `cuda`, `cuda:N`, `cuda:N,M,...` for several, or `auto`, which is CUDA where
            this build of ONNX Runtime has it, else CPU.

    Returns:
        at least one, each once.

    Raises:
        StartupError: not one of these, or CUDA asked for and this build has none.
    """
    kind, colon, given = wanted.partition(":")
    numbers = given.split(",") if colon else ["0"]
    if (
        kind not in ("auto", "cpu", "cuda")
        or (colon and kind != "cuda")
        or not all(number.isascii() and number.isdecimal() for number in numbers)
        or len(set(map(int, numbers))) < len(numbers)
    ):
        raise StartupError(
            f"--device {wanted}: use auto, cpu, cuda, cuda:N, or cuda:N,M for several"
        )
    has_cuda = CUDA in available_providers()
    if kind == "cuda" and not has_cuda:
        raise StartupError(
            f"--device {wanted}: this onnxruntime ({ort.__version__}) was built without CUDA; "
            "install vaeserve[gpu] in an environment without the package onnxruntime, "
            "for both own one import name"
        )
    if kind == "cpu" or not has_cuda:
        return (Device(CPU),)
    return tuple(Device(CUDA, int(number), may_fall_back=kind == "auto") for number in numbers)
