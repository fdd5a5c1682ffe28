"""What is asked of every server, and the answers that raw ONNX Runtime gives."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

# ONNX Runtime reports its use to its maker unless told not to; the baselines inherit this.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

from bench.models import Model, graph_file

Floats = npt.NDArray[np.float32]
Outputs = Mapping[str, Floats]
"""By name: mu and log_var, or x_hat."""

RPCS = ("encode", "decode", "sample")
STREAMS = (1, 8, 64)
SEED = 7
"""Of the request for samples, which is the same each time."""

_OUTPUTS = {"encode": ("mu", "log_var"), "decode": ("x_hat",), "sample": ("x_hat",)}


@dataclass(frozen=True)
class Case:
    """One kind of request.

    Attributes:
        model: that it asks.
        rpc: one of RPCS.
        rows: in each request.
    """

    model: Model
    rpc: str
    rows: int

    def __str__(self) -> str:
        return f"{self.model.name} {self.rpc} {self.rows} row{'s' if self.rows > 1 else ''}"

    @property
    def graph(self) -> str:
        """Which of the two graphs it runs."""
        return "encoder" if self.rpc == "encode" else "decoder"

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the arrays in its reply."""
        return _OUTPUTS[self.rpc]

    @property
    def graph_input(self) -> str:
        """Name of that graph's input."""
        return "x" if self.graph == "encoder" else "z"

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of a row of each of them."""
        return (self.model.latent,) if self.graph == "encoder" else self.model.row_shape

    def input(self) -> Floats:
        """Rows of the graph's input: pictures of noise, or prior draws."""
        rng = np.random.default_rng(SEED)
        if self.graph == "encoder":
            return rng.random((self.rows, *self.model.row_shape), np.float32)
        return rng.standard_normal((self.rows, self.model.latent), np.float32)


class RawGraphs:
    """The model's graphs in this process: the reference for values, and the limit for speed."""

    def __init__(self, repository: Path, model: Model, threads: int) -> None:
        self._sessions = {
            graph: make_session(graph_file(repository, model, graph), threads)
            for graph in ("encoder", "decoder")
        }

    def run(self, graph: str, rows: Floats) -> tuple[Floats, ...]:
        """The graph's outputs in their order."""
        session = self._sessions[graph]
        return tuple(session.run(None, {session.get_inputs()[0].name: rows}))


def make_session(file: Path, threads: int) -> ort.InferenceSession:
    """A CPU session as the service makes it: so many threads, none of which spins."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
