"""Part: what may change a row's numbers on this device, on raw sessions."""

from collections.abc import Sequence
from itertools import product

import numpy as np

from gpu_check.bundles import graph_bytes
from gpu_check.findings import Finding, Notes
from gpu_check.nets import Net
from gpu_check.parts import Setting
from gpu_check.raw import Bound, Floats, buckets, make_session, rows_of

_BUCKET = 8
_NEIGHBOURS = 20
_ON_CPU_ROWS = 2


def measure(nets: Sequence[Net], setting: Setting, known: Sequence[Finding], notes: Notes) -> None:
    """The part."""
    del known
    for net in nets:
        for graph, tf32 in product(net.graphs, (True, False) if setting.on_cuda else (False,)):
            _measure(net, graph, setting, notes, tf32=tf32)


def _measure(net: Net, graph: str, setting: Setting, notes: Notes, *, tf32: bool) -> None:
    name = f"{graph} TF32 {'on' if tf32 else 'off'}"
    content = graph_bytes(setting, net, "float32", graph)
    session = make_session(content, setting, tf32=tf32)
    size = min(_BUCKET, net.most_rows)
    batch = rows_of(net, graph, size)
    bound = Bound(session, batch, setting)
    alone = [output[0] for output in bound.outputs()]
    again = [output[0] for output in bound.outputs()]
    notes.at_most(net.name, f"{name}: a second run", _apart(alone, again), 0, "difference")
    neighbours = 0.0
    for seed in range(1, _NEIGHBOURS + 1):
        others = rows_of(net, graph, size, seed)
        place = seed % size
        others[place] = batch[0]
        found = [output[place] for output in bound.outputs(others)]
        neighbours = max(neighbours, _apart(alone, found))
    notes.at_most(net.name, f"{name}: other neighbours", neighbours, 0, "difference")
    across = 0.0
    for bucket in buckets(min(net.most_rows, 64)):
        rows = np.repeat(batch[:1], bucket, axis=0)
        found = [output[0] for output in Bound(session, rows, setting).outputs()]
        across = max(across, _apart(alone, found))
    notes.add(net.name, f"{name}: other buckets", across, "difference")
    exact = Setting("cpu", setting.quick, setting.home, setting.bundles, setting.seconds)
    few = batch[:_ON_CPU_ROWS]
    on_cpu = Bound(make_session(content, exact), few, exact).outputs()
    here = [output[: len(few)] for output in bound.outputs(batch)]
    notes.add(net.name, f"{name}: against the CPU", _apart(on_cpu, here), "difference")


def _apart(some: Sequence[Floats], others: Sequence[Floats]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(some, others, strict=True))
