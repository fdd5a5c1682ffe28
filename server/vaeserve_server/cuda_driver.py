"""What the CUDA driver says: its version and the devices that this process may use.

libcuda is asked itself, and not the management library, for it alone numbers devices as CUDA does,
in the order and with the choice of CUDA_VISIBLE_DEVICES. No context is made.
"""

import ctypes
import uuid
from dataclasses import dataclass
from typing import Any

_LIBRARY = "libcuda.so.1"
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
_FIRST_WITH_TF32 = (8, 0)


class CudaDriverError(Exception):
    """There is no driver, or it does not work; the message says why."""


@dataclass(frozen=True)
class Gpu:
    """One device.

    Attributes:
        index: CUDA's number of it in this process.
        name: its maker's name.
        identity: its UUID, by which the management library knows it too.
        compute_capability: major and minor.
    """

    index: int
    name: str
    identity: uuid.UUID
    compute_capability: tuple[int, int]

    @property
    def has_tf32(self) -> bool:
        """Whether its tensor cores multiply in TF32."""
        return self.compute_capability >= _FIRST_WITH_TF32


@dataclass(frozen=True)
class CudaDriver:
    """A driver that works.

    Attributes:
        cuda: newest CUDA it supports, major and minor.
        gpus: the devices that this process may use, by their index; may be empty.
    """

    cuda: tuple[int, int]
    gpus: tuple[Gpu, ...]


def read_driver() -> CudaDriver:
    """Ask the driver.

    Raises:
        CudaDriverError: it cannot be loaded or started.
    """
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise CudaDriverError(
            f"there is no NVIDIA driver ({error}): install it, or give this container the device "
            "(docker run --gpus all)"
        ) from error
    cuda = _number(library, "cuDriverGetVersion")
    started = library.cuInit(0)
    if started == _NO_DEVICE:
        count = 0
    else:
        _check(library, "cuInit", started)
        count = _number(library, "cuDeviceGetCount")
    gpus = tuple(_read_gpu(library, index) for index in range(count))
    return CudaDriver((cuda // 1000, cuda % 1000 // 10), gpus)


def _read_gpu(library: Any, index: int) -> Gpu:
    device = ctypes.c_int()
    _check(library, "cuDeviceGet", library.cuDeviceGet(ctypes.byref(device), index))
    name = ctypes.create_string_buffer(256)
    _check(library, "cuDeviceGetName", library.cuDeviceGetName(name, len(name), device))
    identity = (ctypes.c_ubyte * 16)()
    got = library.cuDeviceGetUuid_v2(ctypes.byref(identity), device)
    _check(library, "cuDeviceGetUuid", got)
    return Gpu(
        index,
        name.value.decode(errors="replace"),
        uuid.UUID(bytes=bytes(identity)),
        (
            _number(library, "cuDeviceGetAttribute", _CAPABILITY_MAJOR, device),
            _number(library, "cuDeviceGetAttribute", _CAPABILITY_MINOR, device),
        ),
    )


def _number(library: Any, function: str, *arguments: Any) -> int:
    value = ctypes.c_int()
    _check(library, function, getattr(library, function)(ctypes.byref(value), *arguments))
    return value.value


def _check(library: Any, function: str, code: int) -> None:
    if code:
        text = ctypes.c_char_p()
        library.cuGetErrorString(code, ctypes.byref(text))
        reason = (text.value or b"unknown").decode(errors="replace")
        raise CudaDriverError(f"the NVIDIA driver does not work: {function}: {reason} ({code})")
