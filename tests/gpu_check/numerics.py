"""Part: what may change a row's numbers on this device, on raw sessions."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gpu_check.bundles import graph_bytes
from gpu_check.findings import Finding, Notes
from gpu_check.nets import Net
from gpu_check.parts import Setting
from gpu_check.raw import Bound, Floats, buckets, make_session, rows_of

_BUCKET = 8
_NEIGHBOURS = 20
_LARGEST_BUCKET = 64


def measure(nets: Sequence[Net], setting: Setting, known: Sequence[Finding], notes: Notes) -> None:
    """The part."""
    del known
    for net in nets:
        for graph in net.graphs:
            found = {
                tf32: _measure(net, graph, setting, notes, tf32=tf32)
                for tf32 in ((True, False) if setting.on_cuda else (False,))
            }
            exact = replace(setting, device="cpu")
            session = make_session(graph_bytes(setting, net, "float32", graph), exact)
            few = rows_of(net, graph, min(_BUCKET, net.most_rows))[:1]
            on_cpu = [output[0] for output in Bound(session, few, exact).outputs()]
            for tf32, outputs in found.items():
                what = f"{_name(graph, tf32=tf32)}: against the CPU"
                notes.add(net.name, what, _apart(on_cpu, outputs), "difference")


def _name(graph: str, *, tf32: bool) -> str:
    return f"{graph} TF32 {'on' if tf32 else 'off'}"


def _measure(net: Net, graph: str, setting: Setting, notes: Notes, *, tf32: bool) -> list[Floats]:
    """The outputs of the first row."""
    name = _name(graph, tf32=tf32)
    session = make_session(graph_bytes(setting, net, "float32", graph), setting, tf32=tf32)
    size = min(_BUCKET, net.most_rows)
    batch = rows_of(net, graph, size)
    bound = Bound(session, batch, setting)
    first = [output[0] for output in bound.outputs()]
    again = [output[0] for output in bound.outputs()]
    notes.at_most(net.name, f"{name}: a second run", _apart(first, again), 0, "difference")
    neighbours = 0.0
    for seed in range(1, _NEIGHBOURS + 1):
        others = rows_of(net, graph, size, seed)
        place = seed % size
        others[place] = batch[0]
        found = [output[place] for output in bound.outputs(others)]
        neighbours = max(neighbours, _apart(first, found))
    notes.at_most(net.name, f"{name}: other neighbours", neighbours, 0, "difference")
    across = 0.0
    for bucket in buckets(min(net.most_rows, _LARGEST_BUCKET)):
        rows = np.repeat(batch[:1], bucket, axis=0)
        found = [output[0] for output in Bound(session, rows, setting).outputs()]
        across = max(across, _apart(first, found))
    notes.add(net.name, f"{name}: other buckets", across, "difference")
    return first


def _apart(some: Sequence[Floats], others: Sequence[Floats]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(some, others, strict=True))
