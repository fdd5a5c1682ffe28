"""One graph in one session, fed from buffers on the device: the engine of GPUs.

A batch is copied to the device, padded there to one of a few sizes (buckets), run between buffers
that never move (IO binding), and copied back. The few sizes are what kernels are chosen and warmed
for; a row's bits depend on its bucket, not on its neighbours. Padding rows are whatever the buffer
holds, and are cut off.

Each bucket has a session of its own. cuDNN's plan of a convolution is for one shape, and ONNX
Runtime keeps one plan a convolution: in a session that all buckets share it would be made anew, in
milliseconds, whenever the bucket changes (onnxruntime#23006).

A device has two slots, so that copies overlap runs; `DeviceTurn` lets one of them compute.
"""

import bisect
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vaeserve.v1 import model_pb2
from vaeserve_server.binding import Bound, Tensor
from vaeserve_server.call import Array, Floats, Outputs
from vaeserve_server.config import Tuning
from vaeserve_server.device_ends import Intake, Outlet, Posterior
from vaeserve_server.device_graphs import DeviceGraphs
from vaeserve_server.device_turn import DeviceTurn
from vaeserve_server.devices import Device
from vaeserve_server.memory import Memory
from vaeserve_server.packing import Buffers
from vaeserve_server.sessions import create_session, row_shape


@dataclass(eq=False)
class Place:
    """What all models on one device share.

    Attributes:
        device: which.
        memory: its memory.
        tuning: how ONNX Runtime uses it.
        graphs: the small ones.
        turn: to compute.
    """

    device: Device
    memory: Memory
    tuning: Tuning
    graphs: DeviceGraphs
    turn: DeviceTurn


class LoadedGraph:
    """One graph of a model on a device, for any number of slots.

    Attributes:
        place: where.
        buckets: row counts that are run, ascending; the last is the most rows of a batch.
        row_shape: of one input row.
        provider: ONNX Runtime's name of what it really runs on.
    """

    def __init__(
        self,
        model: bytes,
        graph: model_pb2.Graph,
        place: Place,
        *,
        buckets: Sequence[int],
        threads: int,
    ) -> None:
        """Create the sessions.

        Args:
            model: the ONNX file.
            graph: names of its input and outputs.
            place: where it runs.
            buckets: row counts to run, ascending.
            threads: ONNX Runtime threads; they matter on the CPU only.

        Raises:
            StartupError: the graph cannot be loaded, has other inputs or outputs, or did not get
                the device.
        """
        self.place = place
        self.buckets = buckets
        self._graph = graph
        self._sessions = {
            bucket: create_session(
                model, f"{graph.file} ({bucket} rows)", place.device, threads, place.tuning
            )
            for bucket in buckets
        }
        session = self._sessions[buckets[-1]]
        self.row_shape = row_shape(session, graph)
        self.provider: str = session.get_providers()[0]
        self._graph_ids: Iterator[int] | None = (
            itertools.count(1) if place.tuning.cuda_graphs else None
        )

    def bucket(self, rows: int) -> int:
        """The least bucket that holds so many rows."""
        return self.buckets[bisect.bisect_left(self.buckets, rows)]

    def between(self, source: Tensor, targets: Sequence[Tensor]) -> Bound:
        """The graph from one buffer to others, in the order of its outputs."""
        return Bound(
            self._sessions.__getitem__,
            self.place.memory,
            {self._graph.input_name: source},
            dict(zip(self._graph.output_names, targets, strict=True)),
            self._graph_ids,
        )


class BoundSlot:
    """Runs one graph; see engine.Engine.

    Attributes:
        provider: ONNX Runtime's name of what it runs on.
        bucket: see engine.Engine.
        waited_s: likewise.
    """

    def __init__(
        self, graph: LoadedGraph, end: Posterior | Outlet, levels: Floats | None = None
    ) -> None:
        """Allocate.

        Args:
            graph: encoder or decoder.
            end: where its outputs leave the device.
            levels: float32 [256], the value of each uint8 level; None if its rows are no pictures.
        """
        place = graph.place
        self.provider = graph.provider
        self.bucket, self._turn = graph.bucket, place.turn
        self.waited_s = 0.0
        limit = graph.buckets[-1]
        self._intake = Intake(place.memory, place.graphs, limit, graph.row_shape, levels)
        self._end = end
        self._graph = graph.between(self._intake.values, end.tensors)

    @property
    def buffers(self) -> Buffers:
        """Memory for a packer."""
        return self._intake.buffers

    def run(self, rows: Array, *, as_levels: bool = False) -> Outputs:
        """Run on float32 or uint8 [rows, ...]; see engine.Engine."""
        count, bucket = len(rows), self.bucket(len(rows))
        self._intake.copy(rows)

        def compute() -> None:
            self._intake.convert(bucket)
            self._graph.run(bucket)
            self._end.convert(bucket, as_levels=as_levels)

        self.waited_s = self._turn.run(compute)
        return self._end.fetch(count, as_levels=as_levels)
