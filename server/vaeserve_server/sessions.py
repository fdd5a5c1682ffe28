"""ONNX Runtime sessions that really run where they should."""

import hashlib
from typing import Any

import onnxruntime as ort

from vaeserve.v1 import model_pb2
from vaeserve_server.config import Tuning
from vaeserve_server.cuda_build import TENSORRT, missing_libraries, preload
from vaeserve_server.devices import CPU, CUDA, Device
from vaeserve_server.errors import StartupError

# What makes a context useless for good (cudaGetLastError goes on returning it).
_LOST = (
    "CUDA failure 214",  # uncorrectable ECC error
    "CUDA failure 700",  # illegal memory access
    "CUDA failure 702",  # launch timeout
    "CUDA failure 710",  # device-side assert
    "CUDA failure 714",  # hardware stack error
    "CUDA failure 715",  # illegal instruction
    "CUDA failure 716",  # misaligned address
    "CUDA failure 717",  # invalid address space
    "CUDA failure 718",  # invalid program counter
    "CUDA failure 719",  # launch failure
    "CUDA failure 999",  # unknown
)
_OUT_OF_MEMORY = (
    "Failed to allocate memory",
    "out of memory",
    "bad_alloc",
    "is smaller than requested bytes",  # an arena at its limit
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def create_session(
    model: bytes, name: str, device: Device, threads: int, tuning: Tuning
) -> ort.InferenceSession:
    """Load a graph.

    Args:
        model: the ONNX file.
        name: its name, for messages.
        device: where it must run, every node of it.
        threads: ONNX Runtime threads of it.
        tuning: of a CUDA device.

    Raises:
        StartupError: the graph cannot be loaded, or did not get the device.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A spinning thread burns a core while no request is there, and during a run it takes the core
    # from the threads that receive and answer.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Warnings about the optimiser's decisions are not for operators; errors are raised.
    options.log_severity_level = 3
    providers: list[tuple[str, dict[str, Any]]] = [(CPU, {})]
    if device.on_cuda:
        preload()
        # Without this a graph that CUDA cannot take runs on the CPU, silently and slowly.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        # Weights stay for good: in the arena they would keep its chunks from being returned.
        options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
        providers = [(CUDA, _cuda_options(device, tuning))]
        if tuning.tensorrt:
            providers.insert(0, (TENSORRT, _tensorrt_options(model, name, device, tuning)))
    try:
        # ONNX Runtime's own fallback makes the session anew, on other providers and without these
        # options, when it cannot be made or a run fails.
        session = ort.InferenceSession(model, options, providers=providers, enable_fallback=0)
    except Exception as error:
        raise StartupError(f"{name}: ONNX Runtime refuses it: {error}{_missing(device)}") from error
    wanted = [provider for provider, _ in providers]
    got = session.get_providers()[: len(wanted)]
    if got != wanted:
        raise StartupError(
            f"{name}: runs on {', '.join(got)}, not on {', '.join(wanted)}{_missing(device)}; "
            "`vaeserve doctor` says more"
        )
    return session


def _missing(device: Device) -> str:
    """What the failure of a session may come from, to be added to a message."""
    missing = missing_libraries() if device.on_cuda else []
    return f"; {'; '.join(missing)}: vaeserve[gpu] brings it" if missing else ""


def _cuda_options(device: Device, tuning: Tuning) -> dict[str, Any]:
    options: dict[str, Any] = {
        "device_id": device.index,
        # The default, EXHAUSTIVE, times kernels anew for every shape, and two servers may differ.
        "cudnn_conv_algo_search": "HEURISTIC",
        # The default doubles what it takes each time.
        "arena_extend_strategy": "kSameAsRequested",
        "use_tf32": int(tuning.tf32),
        "enable_cuda_graph": int(tuning.cuda_graphs),
    }
    if tuning.memory_limit_bytes:
        options["gpu_mem_limit"] = tuning.memory_limit_bytes
    return options


def _tensorrt_options(model: bytes, name: str, device: Device, tuning: Tuning) -> dict[str, Any]:
    options: dict[str, Any] = {"device_id": device.index}
    if tuning.engine_cache is not None:
        # TensorRT's names in its cache depend neither on the weights nor on the row count: another
        # version of a model, or another bucket, would get the engine of this one.
        digest = hashlib.sha256(model + name.encode()).hexdigest()
        folder = tuning.engine_cache / f"{digest[:32]}-{ort.__version__}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StartupError(f"--engine-cache {folder}: {error.strerror}") from error
        # Other options take 1 too; these are compared with True and False, as words.
        options |= {
            "trt_engine_cache_enable": True,
            "trt_engine_cache_path": str(folder),
            "trt_timing_cache_enable": True,
            "trt_timing_cache_path": str(tuning.engine_cache),
        }
    return options


def row_shape(session: ort.InferenceSession, graph: model_pb2.Graph) -> tuple[int, ...]:
    """Shape of one input row.

    Raises:
        StartupError: the graph's inputs and outputs are not those of its manifest.
    """
    inputs, outputs = session.get_inputs(), session.get_outputs()
    names = [entry.name for entry in outputs]
    if [entry.name for entry in inputs] != [graph.input_name] or names != list(graph.output_names):
        raise StartupError(
            f"{graph.file}: has inputs {[entry.name for entry in inputs]} and outputs {names}, the "
            f"manifest says {graph.input_name} and {list(graph.output_names)}"
        )
    batch, *row = inputs[0].shape
    if isinstance(batch, int) or not all(isinstance(size, int) for size in row):
        raise StartupError(
            f"{graph.file}: input shape {inputs[0].shape} must be dynamic in its first axis only"
        )
    return tuple(row)


def out_of_memory(error: Exception) -> bool:
    """Whether a run failed for want of memory; ONNX Runtime's exceptions share no base class."""
    return any(sign in str(error) for sign in _OUT_OF_MEMORY)


def device_lost(error: Exception) -> bool:
    """Whether no run on the device will succeed any more, whatever it is."""
    return any(sign in str(error) for sign in _LOST)
