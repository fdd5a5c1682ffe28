"""ONNX Runtime alone: sessions and runs on buffers that stay on the device.

These sessions are made here, not by the server, so that what the server sets is measured too.
"""

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

from gpu_check.nets import Net
from gpu_check.parts import Setting

Floats = npt.NDArray[np.float32]

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_WARM_RUNS, _FEWEST_RUNS = 3, 5


def make_session(
    content: bytes,
    setting: Setting,
    *,
    tf32: bool = True,
    options: Mapping[str, str] | None = None,
) -> ort.InferenceSession:
    """A session that runs every node on the setting's device.

    Args:
        content: the ONNX file.
        setting: says which device.
        tf32: whether float32 products may use TF32.
        options: further ones of the CUDA provider.

    Raises:
        RuntimeError: it got another device.
    """
    settings = ort.SessionOptions()
    settings.log_severity_level = 3
    if not setting.on_cuda:
        settings.intra_op_num_threads = 1 if setting.quick else 0
        return ort.InferenceSession(content, settings, providers=[CPU])
    ort.preload_dlls()
    settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    chosen: dict[str, Any] = {
        "device_id": str(setting.index),
        "use_tf32": str(int(tf32)),
        "cudnn_conv_algo_search": "HEURISTIC",
        **(options or {}),
    }
    session = ort.InferenceSession(content, settings, providers=[(CUDA, chosen)])
    if session.get_providers()[0] != CUDA:
        raise RuntimeError(f"the session runs on {session.get_providers()[0]}, not on {CUDA}")
    return session


class Bound:
    """A session with one batch and its outputs in device memory.

    Args:
        session: which.
        rows: the batch.
        setting: says which device.
    """

    def __init__(self, session: ort.InferenceSession, rows: Floats, setting: Setting) -> None:
        device = ("cuda", setting.index) if setting.on_cuda else ("cpu", 0)
        self._session = session
        self._binding = session.io_binding()
        # A copy: on a CPU the value would share memory with the rows.
        self._input = ort.OrtValue.ortvalue_from_numpy(rows.copy(), *device)
        self._binding.bind_ortvalue_input(session.get_inputs()[0].name, self._input)
        self._outputs = [
            ort.OrtValue.ortvalue_from_shape_and_type(
                [len(rows), *output.shape[1:]], np.float32, *device
            )
            for output in session.get_outputs()
        ]
        for output, value in zip(session.get_outputs(), self._outputs, strict=True):
            self._binding.bind_ortvalue_output(output.name, value)

    def run(self) -> None:
        """Run and wait until the device has finished."""
        self._session.run_with_iobinding(self._binding)

    def outputs(self, rows: Floats | None = None) -> list[Floats]:
        """Copies of the outputs, of other rows if given."""
        if rows is not None:
            self._input.update_inplace(rows)
        self.run()
        return [np.array(value.numpy()) for value in self._outputs]


def times(run: Callable[[], object], seconds: float) -> list[float]:
    """Wall times of runs, seconds each, after a few that are not counted."""
    for _ in range(_WARM_RUNS):
        run()
    found = list[float]()
    end = time.perf_counter() + seconds
    while len(found) < _FEWEST_RUNS or time.perf_counter() < end:
        began = time.perf_counter()
        run()
        found.append(time.perf_counter() - began)
    return found


def median_s(run: Callable[[], object], seconds: float) -> float:
    """The median of `times`."""
    return statistics.median(times(run, seconds))


def rows_of(net: Net, graph: str, count: int, seed: int = 0) -> Floats:
    """Pictures of noise in model values, or prior draws."""
    rng = np.random.default_rng(seed)
    shape = (count, *net.row_shape(graph))
    if graph == "decoder":
        return rng.standard_normal(shape, np.float32)
    scale, offset = net.level
    return rng.random(shape, np.float32) * np.float32(255 * scale) + np.float32(offset)


def buckets(most: int) -> Sequence[int]:
    """Powers of two up to the largest batch."""
    return [1 << power for power in range(most.bit_length()) if 1 << power <= most]
