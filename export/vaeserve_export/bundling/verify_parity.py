"""How far the outputs of a graph are from what they should be, and from each other."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vaeserve.v1 import bundle, model_pb2
from vaeserve_export.errors import VerifyError

BATCH_SIZES = (1, 2, 7, 64)

Floats = npt.NDArray[np.float32]
Run = Callable[[Floats], list[Floats]]
"""Runs a graph on [rows, ...]; its outputs are [rows, ...] too, in the graph's order."""


class Expected(NamedTuple):
    """What PyTorch made of the golden rows in one output, and how far from it ours may be."""

    rows: Floats
    tolerance: bundle.Tolerance


_TOLERANCES = {
    model_pb2.PRECISION_UNSPECIFIED: bundle.Tolerance(1e-5, 1e-4),
    model_pb2.PRECISION_FLOAT32: bundle.Tolerance(1e-5, 1e-4),
    model_pb2.PRECISION_FLOAT16: bundle.Tolerance(2e-3, 1e-3),
    # Stated, not bounded: how far int8 is off depends on the model; its cost is in the manifest.
    model_pb2.PRECISION_INT8: bundle.Tolerance(math.inf, 0.0),
}


def cpu_tolerances(info: model_pb2.ModelInfo) -> list[bundle.Tolerance]:
    """Of mu, log_var and x_hat on the CPU, by the precision of the graphs.

    Args:
        info: the manifest; of int8 graphs with the figures of its export, if it has been exported.
    """
    numerics = info.numerics
    if info.precision == model_pb2.PRECISION_INT8 and info.HasField("numerics"):
        recorded = (numerics.parity_mu, numerics.parity_log_var, numerics.parity_x_hat)
        return [bundle.int8_allowance(parity) for parity in recorded]
    return [_TOLERANCES[info.precision]] * 3


def measure_batches(
    run: Run, graph: model_pb2.Graph, rows: Floats, expected: Sequence[Expected]
) -> tuple[list[float], float]:
    """Run the rows in several batch sizes.

    Args:
        run: runs the graph.
        graph: its names, for messages.
        rows: its inputs.
        expected: of each output.

    Returns:
        The largest difference from what is expected, for each output; and the largest difference
        between a batch size and all rows at once, over all outputs.

    Raises:
        VerifyError: the graph does not run, or an output is further off than it may be.
    """
    whole = run_in_batches(run, graph, rows, len(rows))
    parity = [0.0] * len(expected)
    batch_difference = 0.0
    for size in (*BATCH_SIZES, len(rows)):
        outputs = run_in_batches(run, graph, rows, size)
        where = f"in batches of {size}"
        parity = list(map(max, parity, differences(outputs, expected, graph, where)))
        for output, reference in zip(outputs, whole, strict=True):
            batch_difference = max(batch_difference, float(np.abs(output - reference).max()))
    return parity, batch_difference


def run_in_batches(run: Run, graph: model_pb2.Graph, rows: Floats, size: int) -> list[Floats]:
    """Outputs for all rows, run `size` at a time.

    Raises:
        VerifyError: a run fails.
    """
    try:
        parts = [run(rows[start : start + size]) for start in range(0, len(rows), size)]
        return [np.concatenate(column) for column in zip(*parts, strict=True)]
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise VerifyError(f"{graph.file}: cannot run {size} rows: {error}") from error


def differences(
    outputs: Sequence[Floats], expected: Sequence[Expected], graph: model_pb2.Graph, where: str
) -> list[float]:
    """The largest difference of each output from what PyTorch made of the same rows.

    Args:
        outputs: for all golden rows.
        expected: of each output.
        graph: its names, for messages.
        where: the outputs were computed, for messages.

    Raises:
        VerifyError: another shape, or further off than it may be.
    """
    found = []
    for name, output, (wanted, tolerance) in zip(
        graph.output_names, outputs, expected, strict=True
    ):
        what = f"{graph.file}: {name}"
        if output.shape != wanted.shape:
            raise VerifyError(f"{what} has shape {list(output.shape)}, not {list(wanted.shape)}")
        difference = np.abs(output - wanted)
        allowed = tolerance.allowed(wanted)
        # Written so that a NaN fails.
        if not (difference <= allowed).all():
            worst = (difference - allowed).argmax()
            raise VerifyError(
                f"{what} differs from PyTorch's by {difference.flat[worst]:.2g} {where}, "
                f"{allowed.flat[worst]:.2g} is allowed there. Export the model again; if it is "
                "refused again, its sums cancel terms far larger than their results: train on "
                "values scaled to around 1"
            )
        found.append(float(difference.max()))
    return found
