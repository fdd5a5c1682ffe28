"""A session between buffers that never move."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import numpy.typing as npt
import onnxruntime as ort

from vaeserve_server.engine import EngineLostError, EngineMemoryError
from vaeserve_server.memory import Buffer, Memory
from vaeserve_server.sessions import device_lost, out_of_memory

FIXED = -1
"""For `Tensor.rows`: always the same shape."""


class Tensor(NamedTuple):
    """An input or output in a buffer.

    Attributes:
        buffer: where.
        shape: of one row; of all of it if `rows` is FIXED.
        dtype: of its elements.
        rows: which of a run's row counts its first axis has.
    """

    buffer: Buffer
    shape: tuple[int, ...]
    dtype: npt.DTypeLike
    rows: int = 0

    def whole(self, counts: tuple[int, ...]) -> tuple[int, ...]:
        """Its shape in a run."""
        return self.shape if self.rows == FIXED else (counts[self.rows], *self.shape)


class Bound:
    """Runs a graph from some buffers to others.

    What is bound for a row count is kept: binding takes as long as a small run.
    """

    def __init__(
        self,
        session_of: Callable[..., ort.InferenceSession],
        memory: Memory,
        inputs: Mapping[str, Tensor],
        outputs: Mapping[str, Tensor],
        graph_ids: Iterator[int] | None = None,
    ) -> None:
        """Remember the buffers.

        Args:
            session_of: the graph's session for such row counts.
            memory: whose buffers they are.
            inputs: by name.
            outputs: by name.
            graph_ids: numbers for CUDA graphs, each used once; None where runs are not recorded.
        """
        self._session_of = session_of
        self._memory = memory
        self._inputs = inputs
        self._outputs = outputs
        self._graph_ids = graph_ids
        self._known: dict[tuple[int, ...], Callable[[], None]] = {}

    def run(self, *counts: int) -> None:
        """Run on so many rows.

        Args:
            counts: what `Tensor.rows` numbers.

        Raises:
            EngineMemoryError: there is no memory for so many rows.
            EngineLostError: the device is lost.
        """
        known = self._known.get(counts)
        if known is None:
            known = self._known[counts] = self._bind(counts)
        try:
            known()
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            if out_of_memory(error):
                raise EngineMemoryError(f"{max(counts)} rows do not fit into memory") from error
            if device_lost(error):
                raise EngineLostError(str(error)) from error
            raise

    def _bind(self, counts: tuple[int, ...]) -> Callable[[], None]:
        session = self._session_of(*counts)
        binding = session.io_binding()
        for bind, tensors in (
            (binding.bind_input, self._inputs),
            (binding.bind_output, self._outputs),
        ):
            for name, tensor in tensors.items():
                bind(
                    name=name,
                    device_type=self._memory.kind,
                    device_id=self._memory.index,
                    element_type=tensor.dtype,
                    shape=tensor.whole(counts),
                    buffer_ptr=tensor.buffer.address,
                )
        options = None
        if self._graph_ids is not None:
            options = ort.RunOptions()
            options.add_run_config_entry("gpu_graph_id", str(next(self._graph_ids)))
        return partial(session.run_with_iobinding, binding, options)
