"""What a row's outputs depend on, on a device that computes padded batches.

A server on CUDA pads each batch with zeros to 1, 2, 4, ... rows: the buckets. Libraries choose
their kernels by the shape of a batch, so a row may come out in other bits in another bucket; in
one bucket, it may not.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vaeserve.v1 import model_pb2
from vaeserve_export.bundling.verify_parity import (
    Expected,
    Floats,
    Run,
    differences,
    run_in_batches,
)
from vaeserve_export.errors import VerifyError

BUCKETS = (1, 2, 4, 8, 16, 32, 64)

_Places = npt.NDArray[np.intp]
_EMPTY = -1  # in _Places; also the index of the row of zeros, behind all others

# What a difference in bits alone counts for: 0.0 and -0.0 are no distance apart.
_LEAST = np.finfo(np.float32).smallest_subnormal


class BucketFigures(NamedTuple):
    """Largest differences, of one graph.

    Attributes:
        parity: of each output from PyTorch's.
        within: of a row from itself in one bucket; 0 is bit-identical.
        across: of a row from itself between buckets.
        from_cpu: of a row, in any bucket, from the CPU's outputs.
    """

    parity: list[float]
    within: float
    across: float
    from_cpu: float


def measure_buckets(
    run: Run,
    graph: model_pb2.Graph,
    rows: Floats,
    expected: Sequence[Expected],
    on_cpu: Sequence[Floats],
    *,
    where: str,
) -> BucketFigures:
    """Run the rows in every bucket, with other neighbours, in other places, and again.

    Args:
        run: runs the graph on the device.
        graph: its names, for messages.
        rows: its inputs, [rows, ...].
        expected: of each output.
        on_cpu: what the CPU made of the rows, for each output.
        where: that is, for messages: the device and its setting.

    Raises:
        VerifyError: the graph does not run, an output is further off PyTorch's than it may be, or
            a row depends on the rows beside it or on its place among them.
    """
    parity, from_cpu = [0.0] * len(expected), 0.0
    within: dict[int, float] = {}
    lowest: list[Floats] = []
    highest: list[Floats] = []
    for bucket in BUCKETS:
        outputs = _in_order(run, graph, rows, bucket)
        found = differences(outputs, expected, graph, f"in batches of {bucket} on {where}")
        parity = list(map(max, parity, found))
        from_cpu = max(
            from_cpu, *(float(np.abs(a - b).max()) for a, b in zip(outputs, on_cpu, strict=True))
        )
        lowest = list(map(np.minimum, lowest or outputs, outputs))
        highest = list(map(np.maximum, highest or outputs, outputs))
        within[bucket] = _within(run, graph, rows, outputs, bucket)
    worst = max(within, key=lambda bucket: within[bucket])
    if within[worst] > 0:
        raise VerifyError(
            f"{graph.file}: in batches of {worst} on {where} a row's outputs differ by "
            f"{within[worst]:.2g} with the rows beside it, its place among them, or from run to run"
        )
    across = max(float((high - low).max()) for high, low in zip(highest, lowest, strict=True))
    return BucketFigures(parity, within[worst], across, from_cpu)


def _in_order(run: Run, graph: model_pb2.Graph, rows: Floats, bucket: int) -> list[Floats]:
    """Outputs of all rows, in their order."""
    padding = np.zeros((-len(rows) % bucket, *rows.shape[1:]), np.float32)
    outputs = run_in_batches(run, graph, np.concatenate([rows, padding]), bucket)
    return [output[: len(rows)] for output in outputs]


def _within(
    run: Run, graph: model_pb2.Graph, rows: Floats, reference: Sequence[Floats], bucket: int
) -> float:
    """Largest difference of a row from its reference, in other batches of one bucket."""
    padded = np.concatenate([rows, np.zeros_like(rows[:1])])
    worst = 0.0
    for places in _batches(len(rows), bucket):
        taken = places != _EMPTY
        outputs = run_in_batches(run, graph, padded[places], bucket)
        for output, alike in zip(outputs, reference, strict=True):
            worst = max(worst, _apart(output[taken], alike[places[taken]]))
    return worst


def _batches(rows: int, bucket: int) -> Iterator[_Places]:
    """Batches of a bucket: which row lies at each place, _EMPTY for zeros.

    All rows in two other orders; a batch of each size that a server pads to this bucket; and, at
    each place, a row among zeros alone.
    """
    shuffled = np.random.default_rng(bucket).permutation(rows)
    for order in (np.arange(rows)[::-1], shuffled):
        for start in range(0, rows, bucket):
            yield _filled(order[start : start + bucket], bucket)
    for count in range(bucket // 2 + 1, bucket):
        yield _filled(np.roll(shuffled, count)[:count], bucket)
    for place in range(bucket):
        alone = np.full(bucket, _EMPTY)
        alone[place] = shuffled[place % rows]
        yield alone


def _filled(row_numbers: _Places, bucket: int) -> _Places:
    return np.pad(row_numbers, (0, bucket - len(row_numbers)), constant_values=_EMPTY)


def _apart(one: Floats, other: Floats) -> float:
    """Largest difference: above 0 wherever a bit differs, infinite where one is NaN alone."""
    differs = one.view(np.uint32) != other.view(np.uint32)
    if not differs.any():
        return 0.0
    difference = np.abs(one[differs] - other[differs])
    return float(np.nan_to_num(np.maximum(difference, _LEAST), nan=np.inf, posinf=np.inf).max())
