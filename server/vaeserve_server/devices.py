"""Where graphs run: what `--device` means on this machine."""

import logging
from dataclasses import dataclass

from vaeserve_server.config import Tuning
from vaeserve_server.cuda_build import CUDA, tensorrt_problem
from vaeserve_server.cuda_check import cuda_problem
from vaeserve_server.errors import StartupError

__all__ = ["CPU", "CUDA", "Device", "choose_devices"]

CPU = "CPUExecutionProvider"

_log = logging.getLogger(__name__)


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

    def __str__(self) -> str:
        """As `--device` names it."""
        return f"cuda:{self.index}" if self.on_cuda else "cpu"


def choose_devices(wanted: str, tuning: Tuning | None = None) -> tuple[Device, ...]:
    """Read `--device`, and log what it means here.

    Args:
        wanted: `cpu`, `cuda`, `cuda:N`, `cuda:N,M,...` for several, or `auto`, which is CUDA where
            nothing is known against it, else CPU.
        tuning: what was asked of a CUDA device; by default nothing.

    Returns:
        at least one, each once.

    Raises:
        StartupError: not one of these; CUDA asked for and not to be had; or TensorRT asked for on
            a CUDA device and not to be had.
    """
    indices = _read(wanted)
    tuning = tuning or Tuning()
    if wanted == "cpu":
        return _chosen((Device(CPU),), "asked for")
    problem = next(filter(None, map(cuda_problem, indices)), None)
    if problem is None:
        if tuning.tensorrt and (missing := tensorrt_problem()):
            raise StartupError(f"--tensorrt: {missing}")
        automatic = wanted == "auto"
        devices = tuple(Device(CUDA, index, may_fall_back=automatic) for index in indices)
        return _chosen(devices, "nothing is against CUDA" if automatic else "asked for")
    if wanted != "auto":
        raise StartupError(f"--device {wanted}: {problem}")
    if tuning.options:
        _log.warning("options of CUDA are ignored on the CPU", extra={"options": tuning.options})
    return _chosen((Device(CPU),), problem)


def _read(wanted: str) -> list[int]:
    """Indices that `--device` names; [0] where it names none."""
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
    return list(map(int, numbers))


def _chosen(devices: tuple[Device, ...], reason: str) -> tuple[Device, ...]:
    names = ",".join(map(str, devices))
    _log.info("device chosen", extra={"device": names, "reason": reason})
    return devices
