"""Where `verify` runs the graphs: sessions on the CPU or on a CUDA device."""

import ctypes
import os
import re
from typing import Any, NamedTuple

# ONNX Runtime reports its use to its maker, from its import on, unless told not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

from vaeserve.v1 import model_pb2
from vaeserve_export.bundling.verify_parity import Run
from vaeserve_export.errors import VerifyError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
ORT_VERSION = str(ort.__version__)


class Graphs(NamedTuple):
    """Both graphs of a bundle, loaded."""

    encode: Run
    decode: Run


def cuda_index(device: str) -> int | None:
    """Read `--device`.

    Args:
        device: `cpu`, `cuda` or `cuda:N`.

    Returns:
        The number of the CUDA device, None for the CPU.

    Raises:
        VerifyError: none of these, or CUDA where this ONNX Runtime has none.
    """
    if device == "cpu":
        return None
    match = re.fullmatch(r"cuda(?::([0-9]+))?", device)
    if not match:
        raise VerifyError(f"--device {device}: use cpu, cuda or cuda:N")
    if CUDA not in ort.get_available_providers():
        raise VerifyError(
            f"--device {device}: this onnxruntime ({ORT_VERSION}) was built without CUDA; install "
            "vaeserve[gpu,train] in an environment without the package onnxruntime, for both own "
            "one import name"
        )
    return int(match[1] or 0)


def device_name(index: int) -> str:
    """What the driver calls a CUDA device, as "NVIDIA H200"; the provider's name if it cannot say.

    The driver itself is asked, since it counts devices as ONNX Runtime does; nvidia-smi and NVML
    count those too that CUDA_VISIBLE_DEVICES hides, and in another order.
    """
    name, device = ctypes.create_string_buffer(256), ctypes.c_int()
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return CUDA
    failed = (
        driver.cuInit(0)
        or driver.cuDeviceGet(ctypes.byref(device), index)
        or driver.cuDeviceGetName(name, len(name), device)
    )
    return CUDA if failed else name.value.decode()


def cpu_graphs(info: model_pb2.ModelInfo, files: dict[str, bytes]) -> Graphs:
    """Both graphs on the CPU.

    Raises:
        VerifyError: ONNX Runtime cannot load one.
    """
    options = _options()
    return Graphs(
        *(_load(graph, files, options, CPU, {}) for graph in (info.encoder, info.decoder))
    )


def cuda_graphs(
    info: model_pb2.ModelInfo, files: dict[str, bytes], index: int, *, tf32: bool
) -> Graphs:
    """Both graphs on a CUDA device, with the options that decide a server's numbers.

    Args:
        info: the manifest.
        files: of the bundle.
        index: number of the device.
        tf32: whether float32 factors may be rounded to TF32's 10 bits.

    Raises:
        VerifyError: a graph cannot be loaded there, every node of it.
    """
    ort.preload_dlls()
    options = _options()
    options.log_severity_level = 3  # errors are raised; the rest is about its own optimiser
    # Without this nodes that CUDA cannot take run on the CPU, and the figures are not CUDA's.
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    provider = {
        "device_id": index,
        # As servers have it. The default, EXHAUSTIVE, may choose by timing, anew in each session.
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": int(tf32),
    }
    return Graphs(
        *(_load(graph, files, options, CUDA, provider) for graph in (info.encoder, info.decoder))
    )


def _options() -> ort.SessionOptions:
    """One thread, so that figures do not vary with the machine."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return options


def _load(
    graph: model_pb2.Graph,
    files: dict[str, bytes],
    options: ort.SessionOptions,
    provider: str,
    provider_options: dict[str, Any],
) -> Run:
    try:
        session = ort.InferenceSession(
            files[graph.file],
            options,
            providers=[(provider, provider_options)],
            # Else Python's session starts anew on the CPU when a provider fails, even amid a run.
            enable_fallback=0,
        )
    except Exception as error:  # its exceptions share no base class
        raise VerifyError(f"{graph.file}: ONNX Runtime cannot load it: {error}") from error
    got = session.get_providers()[0]
    if got != provider:
        raise VerifyError(
            f"{graph.file}: runs on {got}, not on {provider}; `vaeserve doctor` says what is "
            "missing"
        )
    names = list(graph.output_names)
    return lambda rows: list(session.run(names, {graph.input_name: rows}))
