"""Memory beside a session: staging buffers on the host, buffers on the device, copies between them.

`HostMemory` is for the CPU, whose device is the host, `cuda_memory.CudaMemory` for GPUs. Both let
other Python threads run while they copy.
"""

import ctypes
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vaeserve_server.call import Array


@dataclass(frozen=True, eq=False)
class Buffer:
    """Memory where graphs run.

    Attributes:
        address: of its first byte.
        nbytes: its size.
        owner: what keeps it.
    """

    address: int
    nbytes: int
    owner: object

    def part(self, begin: int, nbytes: int) -> "Buffer":
        """Some of its bytes."""
        return Buffer(self.address + begin, nbytes, self.owner)


class Memory(Protocol):
    """Memory of one device.

    Attributes:
        kind: ONNX Runtime's name of the kind of device, `cpu` or `cuda`.
        index: number of the device.
    """

    kind: str
    index: int

    def staging(self, shape: Sequence[int], dtype: npt.DTypeLike) -> Array:
        """Host memory that the device copies from and to fastest, zeroed.

        Raises:
            StartupError: there is none left.
        """

    def buffer(self, nbytes: int) -> Buffer:
        """Device memory, zeroed.

        Raises:
            StartupError: there is none left.
        """

    def to_device(self, target: Buffer, source: Array) -> None:
        """Copy a C-contiguous array to the beginning of a buffer."""

    def to_host(self, target: Array, source: Buffer) -> None:
        """Fill a C-contiguous array from the beginning of a buffer."""


class HostMemory:
    """The CPU's."""

    kind = "cpu"
    index = 0

    def staging(self, shape: Sequence[int], dtype: npt.DTypeLike) -> Array:
        """See Memory."""
        return np.zeros(shape, dtype)

    def buffer(self, nbytes: int) -> Buffer:
        """See Memory."""
        owner = np.zeros(nbytes, np.uint8)
        return Buffer(owner.ctypes.data, nbytes, owner)

    def to_device(self, target: Buffer, source: Array) -> None:
        """See Memory."""
        ctypes.memmove(target.address, source.ctypes.data, source.nbytes)

    def to_host(self, target: Array, source: Buffer) -> None:
        """See Memory."""
        ctypes.memmove(target.ctypes.data, source.address, target.nbytes)


class OutputPool:
    """Staging buffers for outputs, each lent until nobody refers to a part of it any more.

    Outputs go to callers, who keep them for as long as they need: a buffer that is simply reused
    would change under them. Buffers are made when they are needed, up to a number; where all are
    lent, ordinary memory does, which is slower to copy to.
    """

    def __init__(self, memory: Memory, shape: Sequence[int], dtype: npt.DTypeLike, kept: int):
        """Allocate nothing yet.

        Args:
            memory: of the device.
            shape: of the largest output.
            dtype: of outputs.
            kept: how many buffers there may be.
        """
        self._memory = memory
        self._shape = tuple(shape)
        self._dtype = np.dtype(dtype)
        self._left = kept
        self._free: list[Array] = []

    def take(self, rows: int) -> Array:
        """An array of so many rows, whose contents are anything."""
        if self._free:
            kept = self._free.pop()  # one slot takes at a time; others only give back
        elif self._left:
            self._left -= 1
            kept = self._memory.staging(self._shape, self._dtype)
        else:
            return np.empty((rows, *self._shape[1:]), self._dtype)
        # Slices of this refer to it, and not to what it was made from.
        lent: Array = np.frombuffer(kept.data.cast("B"), self._dtype)
        # On whichever thread drops the last part; a list's append and pop need no lock.
        weakref.finalize(lent, self._free.append, kept).atexit = False
        return lent.reshape(self._shape)[:rows]
