"""What the batcher needs of an engine; `onnx_engine` is the real one, tests bring failing ones."""

from typing import Protocol

from vaeserve_server.call import Floats, Outputs


class EngineMemoryError(Exception):
    """The engine could not allocate what a run needs; fewer rows may fit."""


class Engine(Protocol):
    """Runs one graph."""

    provider: str
    """Name of the ONNX Runtime provider it really runs on."""

    def bucket(self, rows: int) -> int:
        """Rows that a run of `rows` really computes, padding included."""

    def run(self, rows: Floats) -> Outputs:
        """Run the graph on [rows, ...] float32; outputs in the graph's order, each [rows, ...].

        Raises:
            EngineMemoryError: there is no memory for so many rows.
        """
