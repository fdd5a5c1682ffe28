"""Where rows come to a device and leave it, and are converted there.

Pictures may come and go as uint8 levels: a quarter of the bytes, and the conversion is the device's
work. Copies are made outside of the device's turn, conversions and graphs inside.
"""

import math

import numpy as np
import numpy.typing as npt

from vaeserve.v1 import model_pb2
from vaeserve_server.binding import FIXED, Bound, Tensor
from vaeserve_server.call import Array, Floats, Outputs
from vaeserve_server.device_graphs import DeviceGraphs
from vaeserve_server.memory import Memory, OutputPool
from vaeserve_server.packing import Buffers

# Outputs that are on their way to callers while others are fetched.
_LENT = 4


class Intake:
    """Where rows come to the device, as model values or as uint8 levels.

    Attributes:
        buffers: where they are packed on the host.
        values: where a graph finds them.
    """

    def __init__(
        self,
        memory: Memory,
        graphs: DeviceGraphs,
        limit: int,
        shape: tuple[int, ...],
        levels: Floats | None,
    ) -> None:
        """Allocate.

        Args:
            memory: of the device.
            graphs: on it.
            limit: most rows, padding included.
            shape: of a row.
            levels: float32 [256], the value of each level; None if rows are no pictures.
        """
        self._memory = memory
        size = math.prod(shape)
        self.values = Tensor(memory.buffer(4 * limit * size), shape, np.float32)
        staged = memory.staging((limit, *shape), np.uint8) if levels is not None else None
        self.buffers = Buffers(memory.staging((limit, *shape), np.float32), staged)
        self._came_as_levels = False
        if levels is None:
            return
        self._levels = Tensor(memory.buffer(limit * size), (size,), np.uint8)
        table = Tensor(memory.buffer(levels.nbytes), levels.shape, np.float32, FIXED)
        memory.to_device(table.buffer, levels)
        self._graph = Bound(
            lambda _: graphs.levels,
            memory,
            {"levels": self._levels, "table": table},
            {"values": self.values._replace(shape=(size,))},
        )

    def copy(self, rows: Array) -> None:
        """Copy rows to the device."""
        self._came_as_levels = rows.dtype == np.uint8
        target = self._levels if self._came_as_levels else self.values
        self._memory.to_device(target.buffer, rows)

    def convert(self, bucket: int) -> None:
        """Make model values of what was copied."""
        if self._came_as_levels:
            self._graph.run(bucket)


class Outlet:
    """Where decoded means leave the device, as model values or as uint8 levels.

    Attributes:
        tensors: where a graph puts them, as its one output.
    """

    def __init__(
        self,
        memory: Memory,
        graphs: DeviceGraphs,
        limit: int,
        shape: tuple[int, ...],
        preprocessing: model_pb2.Preprocessing | None,
    ) -> None:
        """Allocate.

        Args:
            memory: of the device.
            graphs: on it.
            limit: most rows, padding included.
            shape: of a row.
            preprocessing: scale and offset of levels; None if rows are no pictures.
        """
        self._memory = memory
        self._pictures = preprocessing is not None
        size = math.prod(shape)
        self._values = Tensor(memory.buffer(4 * limit * size), shape, np.float32)
        self.tensors = (self._values,)
        self._pool = OutputPool(memory, (limit, *shape), np.float32, _LENT)
        if preprocessing is None:
            return
        self._levels = Tensor(memory.buffer(limit * size), (size,), np.uint8)
        self._witness = Tensor(memory.buffer(4 * limit), (), np.float32)
        self._levels_pool = OutputPool(memory, (limit, *shape), np.uint8, _LENT)
        scale, offset = (
            _number(memory, number) for number in (preprocessing.scale, preprocessing.offset)
        )
        self._graph = Bound(
            lambda _: graphs.pictures,
            memory,
            {"x_hat": self._values._replace(shape=(size,)), "scale": scale, "offset": offset},
            {"levels": self._levels, "witness": self._witness},
        )

    def convert(self, bucket: int, *, as_levels: bool) -> None:
        """Make levels of what the graph has put there, if those are wanted and there are some."""
        if as_levels and self._pictures:
            self._graph.run(bucket)

    def fetch(self, rows: int, *, as_levels: bool) -> Outputs:
        """Copy rows from the device.

        Returns:
            model values; or levels, and float32 [rows], NaN where a row is not finite.
        """
        if not (as_levels and self._pictures):
            return (fetched(self._memory, self._values, self._pool.take(rows)),)
        levels = fetched(self._memory, self._levels, self._levels_pool.take(rows))
        return levels, fetched(self._memory, self._witness, np.empty(rows, np.float32))


class Posterior:
    """Where posteriors leave the device.

    Attributes:
        tensors: where a graph puts mu and log_var.
    """

    def __init__(self, memory: Memory, limit: int, shape: tuple[int, ...]) -> None:
        """Allocate.

        Args:
            memory: of the device.
            limit: most rows, padding included.
            shape: of a latent row.
        """
        self._memory = memory
        self.tensors = tuple(
            Tensor(memory.buffer(4 * limit * math.prod(shape)), shape, np.float32) for _ in range(2)
        )

    def convert(self, bucket: int, *, as_levels: bool) -> None:
        """Nothing: they are no pictures."""

    def fetch(self, rows: int, *, as_levels: bool = False) -> Outputs:
        """Copy mu and log_var of so many rows from the device."""
        # Small, and kept for the metrics for longer than any pool would last.
        return tuple(
            fetched(self._memory, tensor, np.empty((rows, *tensor.shape), np.float32))
            for tensor in self.tensors
        )


def fetched(memory: Memory, source: Tensor, target: npt.NDArray[np.generic]) -> Array:
    """The array, filled from the beginning of a tensor."""
    memory.to_host(target, source.buffer)
    return target


def _number(memory: Memory, number: float) -> Tensor:
    value = np.array([number], np.float32)
    tensor = Tensor(memory.buffer(value.nbytes), value.shape, np.float32, FIXED)
    memory.to_device(tensor.buffer, value)
    return tensor
