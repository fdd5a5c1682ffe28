"""Engines on ONNX Runtime: providers, threads, padding. The one module that imports onnxruntime."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# ONNX Runtime reports its use to its maker, from its import on, unless told not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

from vaeserve.v1 import model_pb2
from vaeserve_server.call import Floats, Outputs
from vaeserve_server.cpus import usable_cpus
from vaeserve_server.engine import EngineMemoryError
from vaeserve_server.errors import StartupError
from vaeserve_server.thread_choice import choose_threads

_log = logging.getLogger(__name__)

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

_OUT_OF_MEMORY = ("Failed to allocate memory", "out of memory", "bad_alloc")


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


def available_providers() -> list[str]:
    """Names of the providers that this build of ONNX Runtime has."""
    return list(ort.get_available_providers())


def choose_device(wanted: str) -> Device:
    """Read `--device`.

    Args:
        wanted: `cpu`, `cuda`, `cuda:N`, or `auto`, which is CUDA where this build of ONNX Runtime
            has it, else CPU.

    Raises:
        StartupError: not one of these, or CUDA asked for and this build has none.
    """
    kind, _, index = wanted.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and (kind != "cuda" or not index.isdigit())):
        raise StartupError(f"--device {wanted}: use auto, cpu, cuda or cuda:N")
    has_cuda = CUDA in available_providers()
    if kind == "cuda" and not has_cuda:
        raise StartupError(
            f"--device {wanted}: this onnxruntime ({ort.__version__}) was built without CUDA; "
            "install vaeserve[gpu] in an environment without the package onnxruntime, "
            "for both own one import name"
        )
    if kind == "cpu" or not has_cuda:
        return Device(CPU)
    return Device(CUDA, int(index or 0), may_fall_back=kind == "auto")


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
        try:
            self._session = _create_session(model, graph, device, threads or 1)
        except StartupError as error:
            if not device.may_fall_back:
                raise
            _log.warning("CUDA cannot be had, using the CPU", extra={"problem": str(error)})
            device = Device(CPU)
            self._session = _create_session(model, graph, device, threads or 1)
        self.device = device
        self.threads = threads or 1
        self.row_shape = self._check_signature()
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
            if any(sign in str(error) for sign in _OUT_OF_MEMORY):
                raise EngineMemoryError(f"{count} rows do not fit into memory") from error
            raise
        if padding:
            return tuple([output[:count] for output in outputs])
        return tuple(outputs)

    def _check_signature(self) -> tuple[int, ...]:
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        names = [entry.name for entry in outputs]
        if [entry.name for entry in inputs] != [self._graph.input_name] or names != self._outputs:
            raise StartupError(
                f"{self._graph.file}: has inputs {[entry.name for entry in inputs]} and outputs "
                f"{names}, the manifest says {self._graph.input_name} and {self._outputs}"
            )
        batch, *row = inputs[0].shape
        if isinstance(batch, int) or not all(isinstance(size, int) for size in row):
            raise StartupError(
                f"{self._graph.file}: input shape {inputs[0].shape} must be dynamic in its first "
                "axis only"
            )
        return tuple(row)

    def _choose_threads(self, model: bytes, cpus: int) -> None:
        sessions = {1: self._session}

        def run_with(threads: int) -> Callable[[int], object]:
            if threads not in sessions:
                sessions[threads] = _create_session(model, self._graph, self.device, threads)
            self._session = sessions[threads]
            return lambda rows: self.run(np.zeros((rows, *self.row_shape), np.float32))

        self.threads = choose_threads(run_with, cpus)
        self._session = sessions[self.threads]


def _create_session(
    model: bytes, graph: model_pb2.Graph, device: Device, threads: int
) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A spinning thread burns a core while no request is there, and during a run it takes the core
    # from the threads that receive and answer.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Warnings about the optimiser's decisions are not for operators; errors are raised.
    options.log_severity_level = 3
    providers: Sequence[str | tuple[str, dict[str, Any]]] = [CPU]
    if device.on_cuda:
        ort.preload_dlls()
        # Without this a graph that CUDA cannot take runs on the CPU, silently and slowly.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        providers = [
            (CUDA, {"device_id": device.index, "cudnn_conv_algo_search": "HEURISTIC"}),
        ]
    try:
        session = ort.InferenceSession(model, options, providers=providers)
    except Exception as error:
        raise StartupError(f"{graph.file}: ONNX Runtime refuses it: {error}") from error
    got = session.get_providers()[0]
    if got != device.provider:
        raise StartupError(
            f"{graph.file}: runs on {got}, not on {device.provider}; `vaeserve doctor` says what "
            "is missing"
        )
    return session
