"""Memory of a GPU, through the CUDA runtime that ONNX Runtime has loaded.

ctypes releases the interpreter for the length of a call, so callers are received and answered
while rows are copied. ONNX Runtime's own copies for Python hold it.
"""

import ctypes
import weakref
from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from vaeserve_server.call import Array
from vaeserve_server.cuda_build import built_for, preload
from vaeserve_server.engine import EngineLostError
from vaeserve_server.errors import StartupError
from vaeserve_server.memory import Buffer

_TO_DEVICE, _TO_HOST = 1, 2
_FOR_EVERY_CONTEXT = 1  # cudaHostAllocPortable


class _Owner:
    """Whose end frees what it owns."""


class CudaMemory:
    """Memory of one GPU, and page-locked memory of the host, which it reads and writes itself.

    Attributes:
        kind: `cuda`.
        index: number of the GPU.
    """

    kind = "cuda"

    def __init__(self, index: int) -> None:
        """Find the CUDA runtime.

        Raises:
            StartupError: it cannot be loaded, or has no such device.
        """
        self.index = index
        self._cuda = _runtime()
        self._allocated(self._cuda.cudaSetDevice(index), f"device {index}")

    def staging(self, shape: Sequence[int], dtype: npt.DTypeLike) -> Array:
        """See memory.Memory."""
        dtype = np.dtype(dtype)
        nbytes = max(1, int(np.prod(shape)) * dtype.itemsize)
        address = ctypes.c_void_p()
        self._cuda.cudaSetDevice(self.index)
        code = self._cuda.cudaHostAlloc(
            ctypes.byref(address), ctypes.c_size_t(nbytes), _FOR_EVERY_CONTEXT
        )
        self._allocated(code, f"{nbytes} bytes of page-locked host memory")
        block = (ctypes.c_uint8 * nbytes).from_address(address.value or 0)
        weakref.finalize(block, self._cuda.cudaFreeHost, address).atexit = False
        array: Array = np.ctypeslib.as_array(block)
        array[...] = 0
        return array[: int(np.prod(shape)) * dtype.itemsize].view(dtype).reshape(shape)

    def buffer(self, nbytes: int) -> Buffer:
        """See memory.Memory."""
        address = ctypes.c_void_p()
        self._cuda.cudaSetDevice(self.index)
        code = self._cuda.cudaMalloc(ctypes.byref(address), ctypes.c_size_t(nbytes))
        self._allocated(code, f"{nbytes} bytes on device {self.index}")
        owner = _Owner()
        weakref.finalize(owner, self._cuda.cudaFree, address).atexit = False
        self._done(self._cuda.cudaMemset(address, 0, ctypes.c_size_t(nbytes)))
        return Buffer(address.value or 0, nbytes, owner)

    def to_device(self, target: Buffer, source: Array) -> None:
        """See memory.Memory.

        Raises:
            EngineLostError: the device does nothing any more.
        """
        self._copy(target.address, source.ctypes.data, source.nbytes, _TO_DEVICE)

    def to_host(self, target: Array, source: Buffer) -> None:
        """See memory.Memory.

        Raises:
            EngineLostError: the device does nothing any more.
        """
        self._copy(target.ctypes.data, source.address, target.nbytes, _TO_HOST)

    def _copy(self, target: int, source: int, nbytes: int, kind: int) -> None:
        self._cuda.cudaSetDevice(self.index)  # each thread has a device of its own
        self._done(
            self._cuda.cudaMemcpy(
                ctypes.c_void_p(target), ctypes.c_void_p(source), ctypes.c_size_t(nbytes), kind
            )
        )

    def _allocated(self, code: int, what: str) -> None:
        if code:
            self._cuda.cudaGetLastError()  # or ONNX Runtime would take it for one of its own
            raise StartupError(f"CUDA cannot give {what}: {self._text(code)}")

    def _done(self, code: int) -> None:
        # A copy between buffers that exist fails only where nothing works any more.
        if code:
            raise EngineLostError(f"CUDA failure {code}: {self._text(code)}")

    def _text(self, code: int) -> str:
        text: bytes = self._cuda.cudaGetErrorString(code)
        return text.decode(errors="replace")


@cache
def _runtime() -> ctypes.CDLL:
    """The CUDA runtime.

    Raises:
        StartupError: it cannot be loaded.
    """
    preload()
    major, _ = built_for() or (0, 0)
    try:
        cuda = ctypes.CDLL(f"libcudart.so.{major}")
    except OSError as error:
        raise StartupError(f"{error}; `vaeserve doctor` says what is missing") from error
    cuda.cudaGetErrorString.restype = ctypes.c_char_p
    return cuda
