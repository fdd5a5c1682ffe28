"""Parts: the service beside raw ONNX Runtime, more workers beside one, and a soak."""

from collections.abc import Sequence

import numpy as np

from bench.servers import Vaeserve
from gpu_check.findings import Finding, Notes, value_of
from gpu_check.load import Shot, drive, request_of, serving
from gpu_check.machine import device_memory_mb
from gpu_check.nets import Net
from gpu_check.parts import Setting

_SHARE_OF_RAW = 0.9
_OVER_RAW_US = 300.0
_BUSY_PERCENT = 90.0
_MIXED = 1.2
_BATCHES_UNDER_WAY = 4
_SOAK_ROWS, _FEWEST_STEPS, _SOAK_SIZES = 100_000, 3, 8
_MAY_GROW_MB = 16.0
_RPCS = {"encoder": "encode", "decoder": "decode"}


def measure(net: Net, setting: Setting, known: Sequence[Finding], notes: Notes) -> None:
    """The part: saturated with each payload, then one caller alone."""
    batch = _batch(net, setting, known)
    with serving(net, "float32", setting, most_rows=batch) as server:
        for graph in net.graphs:
            for payload in ("uint8", "float32"):
                shot = _saturate(net, "float32", graph, payload, server, batch, setting)
                _compare(net, "float32", graph, payload, shot, known, notes)
        graph = net.graphs[0]
        request = request_of(net, "float32", _RPCS[graph], "uint8", 1)
        shot = drive(
            server, _RPCS[graph], [request], [1], setting, callers=1, seconds=setting.seconds
        )
        mixed = _mixed(net, net.graphs[-1], server, batch, setting)
    notes.at_most(net.name, f"service {net.graphs[-1]}, mixed sizes", mixed, _MIXED, "x")
    raw = value_of(known, net.name, f"raw {graph} float32, batch of 1")
    over = None if raw is None else 1e3 * shot.p50_ms - raw
    notes.add(net.name, f"service {graph}, one caller, one row, p50", 1e3 * shot.p50_ms, "us")
    notes.add(net.name, f"service {graph}, one caller, one row, p99", 1e3 * shot.p99_ms, "us")
    notes.at_most(net.name, f"service {graph}, one row, over raw", over, _OVER_RAW_US, "us")
    graph = net.graphs[-1]
    with serving(net, "fp16", setting, most_rows=batch) as server:
        shot = _saturate(net, "fp16", graph, "uint8", server, batch, setting)
        _compare(net, "fp16", graph, "uint8", shot, known, notes)


def _mixed(net: Net, graph: str, server: Vaeserve, batch: int, setting: Setting) -> float:
    """One caller that alternates one row with a full batch, over the two apart.

    Kernels that are prepared for one shape would be prepared again with every call.
    """

    def seconds(*sizes: int) -> float:
        """Of one round of such calls."""
        requests = [request_of(net, "float32", _RPCS[graph], "uint8", size) for size in sizes]
        shot = drive(
            server,
            _RPCS[graph],
            requests,
            list(sizes),
            setting,
            callers=1,
            seconds=setting.seconds / 2,
        )
        return sum(sizes) / shot.rows_s

    return seconds(1, batch) / (seconds(1) + seconds(batch))


def workers(net: Net, setting: Setting, known: Sequence[Finding], notes: Notes) -> None:
    """The part: several server processes on one device."""
    batch, graph = _batch(net, setting, known), net.graphs[0]
    one = value_of(known, net.name, f"service {graph} float32, uint8")
    for count in (2,) if setting.quick else (2, 4):
        with serving(net, "float32", setting, most_rows=batch, workers=count) as server:
            shot = _saturate(net, "float32", graph, "uint8", server, batch, setting)
        what = f"service {graph}, {count} workers"
        notes.add(net.name, what, shot.rows_s, "rows/s")
        if one is not None:
            notes.add(net.name, f"{what}, of one's", shot.rows_s / one, "x")


def soak(net: Net, setting: Setting, known: Sequence[Finding], notes: Notes) -> None:
    """The part: rows in requests of random sizes; memory must reach a plateau."""
    batch, graph = _batch(net, setting, known), net.graphs[0]
    sizes = np.random.default_rng(0).integers(1, batch + 1, _SOAK_SIZES).tolist()
    requests = [request_of(net, "float32", _RPCS[graph], "uint8", size) for size in sizes]
    wanted, rows, held = 200 if setting.quick else _SOAK_ROWS, 0.0, list[float]()
    with serving(net, "float32", setting, most_rows=batch) as server:
        notes.add(net.name, "memory before the soak", _memory_mb(server, setting), "MB")
        while rows < wanted or len(held) < _FEWEST_STEPS:
            shot = drive(
                server,
                _RPCS[graph],
                requests,
                sizes,
                setting,
                callers=2 * _BATCHES_UNDER_WAY,
                seconds=setting.seconds,
            )
            rows += shot.rows_s * setting.seconds
            held.append(_memory_mb(server, setting))
    notes.add(net.name, "rows of the soak", rows, "rows")
    middle = held[len(held) // 2]
    for name, value in (("first step", held[0]), ("middle", middle), ("end", held[-1])):
        notes.add(net.name, f"memory of the soak, {name}", value, "MB")
    grown = held[-1] - middle
    notes.at_most(net.name, "memory of the soak, end over middle", grown, _MAY_GROW_MB, "MB")


def _saturate(
    net: Net,
    precision: str,
    graph: str,
    payload: str,
    server: Vaeserve,
    batch: int,
    setting: Setting,
) -> Shot:
    """With several full batches under way."""
    rpc, rows = _RPCS[graph], min(net.request_rows, batch)
    request = request_of(net, precision, rpc, payload, rows)
    callers = max(2, _BATCHES_UNDER_WAY * batch // rows)
    # nvidia-smi looks back for as much as a second.
    seconds = setting.seconds if setting.quick else 3 * setting.seconds
    return drive(server, rpc, [request], [rows], setting, callers=callers, seconds=seconds)


def _compare(
    net: Net,
    precision: str,
    graph: str,
    payload: str,
    shot: Shot,
    known: Sequence[Finding],
    notes: Notes,
) -> None:
    """Bars are of levels and float32 graphs: floats of pictures weigh four times as much."""
    what = f"service {graph} {precision}, {payload}"
    raw = value_of(known, net.name, f"raw {graph} {precision}")
    share = None if raw is None else shot.rows_s / raw
    notes.add(net.name, what, shot.rows_s, "rows/s")
    notes.add(net.name, f"{what}, p50", shot.p50_ms, "ms")
    notes.add(net.name, f"{what}, p99", shot.p99_ms, "ms")
    barred = (precision, payload) == ("float32", "uint8")
    if barred and net.likelihood == "bernoulli":
        notes.at_least(net.name, f"{what}, of raw", share, _SHARE_OF_RAW, "x")
    else:
        notes.add(net.name, f"{what}, of raw", share, "x")
    if barred:
        notes.at_least(net.name, f"{what}, GPU busy", shot.busy_percent, _BUSY_PERCENT, "%")
    else:
        notes.add(net.name, f"{what}, GPU busy", shot.busy_percent, "%")


def _batch(net: Net, setting: Setting, known: Sequence[Finding]) -> int:
    """The batch at which raw runs are fastest, of the graph that needs more."""
    found = [value_of(known, net.name, f"raw {graph} float32, best batch") for graph in net.graphs]
    best = max((int(value) for value in found if value is not None), default=net.most_rows)
    return min(best, net.most_rows) if not setting.quick else net.most_rows


def _memory_mb(server: Vaeserve, setting: Setting) -> float:
    """Of the device, or resident where there is none."""
    held = device_memory_mb(setting) if setting.on_cuda else None
    return server.process.resident_bytes() / 1e6 if held is None else held
