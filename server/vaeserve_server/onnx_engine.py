"""One graph in one ONNX Runtime session, fed from host memory: the engine of CPUs."""

from collections.abc import Callable

import numpy as np
import onnxruntime as ort

from vaeserve.v1 import model_pb2
from vaeserve_server.call import Floats, Outputs
from vaeserve_server.config import Tuning
from vaeserve_server.cpus import usable_cpus
from vaeserve_server.devices import CPU, Device
from vaeserve_server.engine import EngineMemoryError
from vaeserve_server.levels import levels_and_witness
from vaeserve_server.packing import Buffers
from vaeserve_server.sessions import create_session, out_of_memory, row_shape
from vaeserve_server.thread_choice import choose_threads


class OnnxEngine:
    """One graph in one ONNX Runtime session on the CPU.

    Attributes:
        provider: ONNX Runtime's name of the CPU.
        waited_s: see engine.Engine.
        threads: ONNX Runtime threads, as told or as measured.
        row_shape: shape of one input row.
    """

    provider = CPU
    waited_s = 0.0

    def __init__(
        self,
        model: bytes,
        graph: model_pb2.Graph,
        *,
        threads: int,
        cpus: int | None = None,
        preprocessing: model_pb2.Preprocessing | None = None,
    ) -> None:
        """Create the session.

        Args:
            model: the ONNX file.
            graph: names of its input and outputs.
            threads: ONNX Runtime threads; 0 measures how many are worth it.
            cpus: how many threads that may be; all CPUs of this process unless told.
            preprocessing: scale and offset of the pictures that it decodes, if it does.

        Raises:
            StartupError: the graph cannot be loaded, or has other inputs or outputs.
        """
        self._graph = graph
        self._preprocessing = preprocessing
        self._outputs = list(graph.output_names)
        self._session = self._made(model, threads or 1)
        self.threads = threads or 1
        self.row_shape = row_shape(self._session, graph)
        if threads == 0:
            self._choose_threads(model, cpus or usable_cpus())

    def buffers(self, max_rows: int) -> Buffers:
        """Memory for a packer."""
        return Buffers(np.zeros((max_rows, *self.row_shape), np.float32))

    def bucket(self, rows: int) -> int:
        """As many: a CPU's kernels take any number alike."""
        return rows

    def run(self, rows: Floats, *, as_levels: bool = False) -> Outputs:
        """Run the graph on [rows, ...] float32; see engine.Engine.

        Raises:
            EngineMemoryError: there is no memory for so many rows.
        """
        try:
            outputs = tuple(self._session.run(self._outputs, {self._graph.input_name: rows}))
        except Exception as error:
            if out_of_memory(error):
                raise EngineMemoryError(f"{len(rows)} rows do not fit into memory") from error
            raise
        if not as_levels or self._preprocessing is None:
            return outputs
        (x_hat,) = outputs
        return levels_and_witness(x_hat, self._preprocessing.scale, self._preprocessing.offset)

    def _choose_threads(self, model: bytes, cpus: int) -> None:
        sessions = {1: self._session}

        def run_with(threads: int) -> Callable[[int], object]:
            if threads not in sessions:
                sessions[threads] = self._made(model, threads)
            self._session = sessions[threads]
            return lambda rows: self.run(np.zeros((rows, *self.row_shape), np.float32))

        self.threads = choose_threads(run_with, cpus)
        self._session = sessions[self.threads]

    def _made(self, model: bytes, threads: int) -> ort.InferenceSession:
        return create_session(model, self._graph.file, Device(CPU), threads, Tuning())
