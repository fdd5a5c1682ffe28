"""Encoder, latents, decoder in one go on a device: the latents never leave it.

`chaining` has the formula, `server/generate_graphs.py` the graph between the two.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vaeserve.v1 import model_pb2
from vaeserve_server.binding import Bound, Tensor
from vaeserve_server.bound_engine import LoadedGraph
from vaeserve_server.call import Array, Floats, Outputs, Rows
from vaeserve_server.chaining import Chained
from vaeserve_server.device_ends import Intake, Outlet, Posterior, fetched
from vaeserve_server.errors import ServiceError
from vaeserve_server.memory import Memory
from vaeserve_server.packing import Packer

_ENCODED, _DECODED = 0, 1  # the two row counts of a run
_NUMBERS: tuple[tuple[str, tuple[int, ...], npt.DTypeLike], ...] = (
    ("first", (), np.int32),
    ("second", (), np.int32),
    ("first_weight", (1,), np.float32),
    ("second_weight", (1,), np.float32),
)


@dataclass(frozen=True, slots=True, eq=False)
class ChainBatch:
    """A packed batch.

    Attributes:
        x: as Packer.pack returns it.
        rows: how many are decoded.
    """

    x: Array
    rows: int

    def __len__(self) -> int:
        return self.rows


class _Optional:
    """Rows that most batches have none of, and that are 0 then: not copied as long as they are."""

    def __init__(self, memory: Memory, limit: int, size: int, rows: int) -> None:
        self._memory = memory
        self._staged = memory.staging((limit, size), np.float32)
        self.tensor = Tensor(memory.buffer(self._staged.nbytes), (size,), np.float32, rows)
        self._given = False
        self._rows_there = 0  # those behind are 0 on the device

    def begin(self, given: Iterable[bool]) -> None:
        """Whether any part of a batch has some."""
        self._given = any(given)

    def put(self, rows: slice, values: Floats | None) -> None:
        """Stage a part's."""
        if self._given:
            self._staged[rows] = 0 if values is None else values

    def copy(self, rows: int) -> None:
        """Bring the device up to date."""
        if self._given:
            self._memory.to_device(self.tensor.buffer, self._staged[:rows])
            self._rows_there = max(self._rows_there, rows)
        elif self._rows_there:
            self._staged[: self._rows_there] = 0
            self._memory.to_device(self.tensor.buffer, self._staged[: self._rows_there])
            self._rows_there = 0


class ChainSlot:
    """Packs chained requests and runs them; see engine.Engine and engine.BatchPacker.

    Attributes:
        provider: ONNX Runtime's name of what it runs on.
        bucket: see engine.Engine.
        waited_s: likewise.
    """

    def __init__(
        self,
        encoder: LoadedGraph,
        decoder: LoadedGraph,
        info: model_pb2.ModelInfo,
        *,
        levels: Floats | None,
        unit_interval: bool,
        encoded: Callable[[Outputs], None],
    ) -> None:
        """Allocate.

        Args:
            encoder: on the same device as `decoder`.
            decoder: of the same model.
            info: manifest of the model.
            levels: float32 [256], the value of each uint8 level; None if rows are no pictures.
            unit_interval: whether values outside [0, 1] are refused.
            encoded: told mu and log_var of each batch.
        """
        place, limit = encoder.place, encoder.buckets[-1]
        self.provider = encoder.provider
        self.bucket, self._turn = encoder.bucket, place.turn
        self.waited_s = 0.0
        self._told = encoded
        self._memory = memory = place.memory
        graphs = place.graphs
        latent_shape = tuple(info.latent_shape)
        size = int(np.prod(latent_shape))
        self._intake = Intake(memory, graphs, limit, encoder.row_shape, levels)
        self._packer = Packer(
            self._intake.buffers, field="input", unit_interval=unit_interval, levels=levels
        )
        self._posterior = Posterior(memory, limit, latent_shape)
        preprocessing = info.preprocessing if levels is not None else None
        self._outlet = Outlet(memory, graphs, limit, tuple(info.input_shape), preprocessing)

        # One copy for all four: it takes as long as any of them.
        self._numbers = memory.staging((4, limit), np.int32)
        self._first, self._second = self._numbers[:2]
        self._weights = self._numbers[2:].view(np.float32)
        self._numbers_there = memory.buffer(self._numbers.nbytes)
        row = self._numbers[0].nbytes
        given = {
            name: Tensor(self._numbers_there.part(at * row, row), shape, dtype, _DECODED)
            for at, (name, shape, dtype) in enumerate(_NUMBERS)
        }
        self._eps = _Optional(memory, limit, size, _ENCODED)
        self._move = _Optional(memory, limit, size, _DECODED)
        given |= {"eps": self._eps.tensor, "move": self._move.tensor}
        flat = {
            name: tensor._replace(shape=(size,))
            for name, tensor in zip(("mu", "log_var"), self._posterior.tensors, strict=True)
        }
        self._z = Tensor(memory.buffer(4 * limit * size), latent_shape, np.float32)
        self._encode = encoder.between(self._intake.values, self._posterior.tensors)
        z = self._z._replace(shape=(size,), rows=_DECODED)
        self._latents = Bound(lambda *_: graphs.latents, memory, flat | given, {"z": z})
        self._decode = decoder.between(self._z, self._outlet.tensors)

    def pack(self, parts: Sequence[Rows]) -> ChainBatch:
        """See engine.BatchPacker."""
        chained = [part for part in parts if isinstance(part, Chained)]
        x = self._packer.pack([part.x for part in chained])
        self._eps.begin(part.eps is not None for part in chained)
        self._move.begin(part.move is not None for part in chained)
        encoded = decoded = 0
        for part in chained:
            inputs = slice(encoded, encoded + len(part.x))
            outputs = slice(decoded, decoded + len(part))
            # Numbers of rows of the request become numbers of rows of the batch.
            self._first[outputs] = part.first + encoded
            self._second[outputs] = part.second + encoded
            self._weights[0, outputs] = part.first_weight
            self._weights[1, outputs] = part.second_weight
            self._eps.put(inputs, part.eps)
            self._move.put(outputs, part.move)
            encoded, decoded = inputs.stop, outputs.stop
        # Padding rows must name rows that there are.
        self._numbers[:2, decoded : self.bucket(decoded)] = 0
        return ChainBatch(x, decoded)

    def sound(self, rows: ChainBatch) -> bool:
        """See engine.BatchPacker."""
        return self._packer.sound(rows.x)

    def problem(self, part: Rows) -> ServiceError | None:
        """See engine.BatchPacker."""
        return self._packer.problem(part.x) if isinstance(part, Chained) else None

    def run(self, rows: ChainBatch, *, as_levels: bool) -> Outputs:
        """Run a packed batch.

        Returns:
            z, and x_hat as model values, or as levels with what tells whether they are finite.

        Raises:
            EngineMemoryError: there is no memory for so many rows.
            EngineLostError: the device is lost.
        """
        encoded, decoded = len(rows.x), rows.rows
        inputs, outputs = self.bucket(encoded), self.bucket(decoded)
        self._intake.copy(rows.x)
        self._memory.to_device(self._numbers_there, self._numbers)
        self._eps.copy(encoded)
        self._move.copy(decoded)

        def compute() -> None:
            self._intake.convert(inputs)
            self._encode.run(inputs)
            self._latents.run(inputs, outputs)
            self._decode.run(outputs)
            self._outlet.convert(outputs, as_levels=as_levels)

        self.waited_s = self._turn.run(compute)
        z = fetched(self._memory, self._z, np.empty((decoded, *self._z.shape), np.float32))
        made = (z, *self._outlet.fetch(decoded, as_levels=as_levels))
        self._told(self._posterior.fetch(encoded))
        return made
