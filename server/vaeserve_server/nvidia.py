"""What NVIDIA's management library says: the driver's version, and memory while serving."""

import functools
import uuid
from dataclasses import dataclass
from typing import Any


class ManagementError(Exception):
    """The management library, or its Python package, cannot be had; the message says why."""


@dataclass(frozen=True)
class Memory:
    """Memory of a device, of all processes together, bytes."""

    used: int
    total: int


def driver_version() -> str:
    """Version of the driver, such as 580.95.05.

    Raises:
        ManagementError: it cannot be asked.
    """
    nvml = _library()
    try:
        return str(nvml.nvmlSystemGetDriverVersion())
    except nvml.NVMLError as error:
        raise ManagementError(str(error)) from error


def memory(identity: uuid.UUID) -> Memory:
    """Memory of a device or of a part of one (MIG).

    Args:
        identity: its UUID, as the CUDA driver tells it.

    Raises:
        ManagementError: it cannot be asked.
    """
    nvml = _library()
    try:
        try:
            handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{identity}")
        except nvml.NVMLError:
            handle = nvml.nvmlDeviceGetHandleByUUID(f"MIG-{identity}")
        got = nvml.nvmlDeviceGetMemoryInfo(handle)
    except nvml.NVMLError as error:
        raise ManagementError(str(error)) from error
    return Memory(int(got.used), int(got.total))


@functools.cache
def _library() -> Any:
    """Started once and never shut down: it is asked at every scrape."""
    try:
        import pynvml  # noqa: PLC0415  only the [gpu] extra has it
    except ImportError as error:
        raise ManagementError(
            "the package nvidia-ml-py is not installed; vaeserve[gpu] brings it"
        ) from error
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise ManagementError(str(error)) from error
    return pynvml
