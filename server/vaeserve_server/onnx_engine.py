"""One graph in one ONNX Runtime session, fed from host memory: the engine of CPUs."""

import logging
from collections.abc import Callable

import numpy as np

from vaeserve.v1 import model_pb2
from vaeserve_server.call import Floats, Outputs
from vaeserve_server.cpus import usable_cpus
from vaeserve_server.devices import CPU, Device
from vaeserve_server.engine import EngineMemoryError
from vaeserve_server.errors import StartupError
from vaeserve_server.sessions import Tuning, create_session, out_of_memory, row_shape
from vaeserve_server.thread_choice import choose_threads

_log = logging.getLogger(__name__)


class OnnxEngine:
    """One graph in one ONNX Runtime session."""

    def __init__(
        self,
        model: bytes,
        graph: model_pb2.Graph,
        device: Device,
        *,
        threads: int,
        cpus: int | None = None,
    ) -> None:
        """Create the session and make sure that it really runs where it should.

        Args:
            model: the ONNX file.
            graph: names of its input and outputs.
            device: where to run.
            threads: ONNX Runtime threads; 0 measures how many are worth it.
            cpus: how many threads that may be; all CPUs of this process unless told.

        Raises:
            StartupError: the graph cannot be loaded, has other inputs or outputs, or did not get
                the device.
        """
        self._graph = graph
        self._outputs = list(graph.output_names)
        self._tuning = Tuning()
        try:
            self._session = create_session(model, graph.file, device, threads or 1, self._tuning)
        except StartupError as error:
            if not device.may_fall_back:
                raise
            _log.warning("CUDA cannot be had, using the CPU", extra={"problem": str(error)})
            device = Device(CPU)
            self._session = create_session(model, graph.file, device, threads or 1, self._tuning)
        self.device = device
        self.threads = threads or 1
        self.row_shape = row_shape(self._session, graph)
        self.provider = device.provider
        if threads == 0 and not device.on_cuda:
            self._choose_threads(model, cpus or usable_cpus())

    def bucket(self, rows: int) -> int:
        """On CUDA the next power of two: kernels are chosen and warmed for few shapes."""
        return 1 << (rows - 1).bit_length() if self.device.on_cuda else rows

    def run(self, rows: Floats) -> Outputs:
        """Run the graph on [rows, ...] float32.

        Raises:
            EngineMemoryError: there is no memory for so many rows.
        """
        count = len(rows)
        padding = self.bucket(count) - count
        if padding:
            rows = np.concatenate([rows, np.zeros((padding, *self.row_shape), np.float32)])
        try:
            outputs = self._session.run(self._outputs, {self._graph.input_name: rows})
        except Exception as error:
            if out_of_memory(error):
                raise EngineMemoryError(f"{count} rows do not fit into memory") from error
            raise
        if padding:
            return tuple([output[:count] for output in outputs])
        return tuple(outputs)

    def _choose_threads(self, model: bytes, cpus: int) -> None:
        sessions = {1: self._session}

        def run_with(threads: int) -> Callable[[int], object]:
            if threads not in sessions:
                sessions[threads] = create_session(
                    model, self._graph.file, self.device, threads, self._tuning
                )
            self._session = sessions[threads]
            return lambda rows: self.run(np.zeros((rows, *self.row_shape), np.float32))

        self.threads = choose_threads(run_with, cpus)
        self._session = sessions[self.threads]
