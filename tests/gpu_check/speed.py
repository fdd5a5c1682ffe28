"""Part: how fast a net runs without a service, and how fast it could be at most.

Raw ONNX Runtime and PyTorch, each with data that is on the device already. Wall times include the
wait for the device.
"""

import math
from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gpu_check.bundles import PRECISIONS, graph_bytes
from gpu_check.findings import Finding, Notes, value_of
from gpu_check.machine import Peak, peak_of
from gpu_check.nets import Net
from gpu_check.parts import Setting
from gpu_check.raw import Bound, buckets, make_session, median_s, rows_of

# What might beat the server's choice, at the best bucket.
_VARIANTS = {
    "exhaustive search": {"cudnn_conv_algo_search": "EXHAUSTIVE"},
    "NHWC": {"prefer_nhwc": "1"},
    "CUDA graph": {"enable_cuda_graph": "1"},
}


def measure(net: Net, setting: Setting, known: Sequence[Finding], notes: Notes) -> None:
    """The part."""
    del known
    peak = peak_of(setting)
    best = dict[tuple[str, str], int]()
    for graph in net.graphs:
        for precision in PRECISIONS:
            bucket, rate = _raw(net, graph, precision, setting, notes)
            best[graph, precision] = bucket
            _floor(net, graph, precision, bucket, rate, peak, notes)
    for (graph, precision), bucket in best.items():
        _torch(net, graph, precision, bucket, setting, notes, compiled=False)


def measure_compiled(
    nets: Sequence[Net], setting: Setting, known: Sequence[Finding], notes: Notes
) -> None:
    """The part that compiles: tens of seconds a graph, hence the last and decoders only."""
    for net, precision in product(nets, PRECISIONS):
        best = value_of(known, net.name, f"raw decoder {precision}, best batch")
        bucket = int(best or net.most_rows)
        _torch(net, "decoder", precision, bucket, setting, notes, compiled=True)


def _raw(net: Net, graph: str, precision: str, setting: Setting, notes: Notes) -> tuple[int, float]:
    """Best bucket and its rows/s."""
    name = f"{graph} {precision}"
    content = graph_bytes(setting, net, precision, graph)
    session = make_session(content, setting)
    rates = dict[int, float]()
    for bucket in buckets(net.most_rows):
        bound = Bound(session, rows_of(net, graph, bucket), setting)
        took = median_s(bound.run, setting.seconds / 4)
        rates[bucket] = bucket / took
        notes.add(net.name, f"raw {name}, batch of {bucket}", took * 1e6, "us")
    best = max(rates, key=rates.__getitem__)
    found = {"": rates[best]}
    for variant, options in _VARIANTS.items() if setting.on_cuda else ():
        try:
            special = make_session(content, setting, options=options)
            bound = Bound(special, rows_of(net, graph, best), setting)
            found[variant] = best / median_s(bound.run, setting.seconds / 4)
        except Exception as error:  # noqa: BLE001  its exceptions share no base class
            notes.add(net.name, f"raw {name}, {variant}", str(error).splitlines()[0])
        else:
            notes.add(net.name, f"raw {name}, {variant}", found[variant], "rows/s")
    notes.add(net.name, f"raw {name}, best batch", best, "rows")
    # A variant that is faster is what the service is held to.
    notes.add(net.name, f"raw {name}", max(found.values()), "rows/s")
    return best, max(found.values())


def _floor(
    net: Net,
    graph: str,
    precision: str,
    bucket: int,
    rate: float,
    peak: Peak | None,
    notes: Notes,
) -> None:
    """The device's peaks against what the layers must compute and move.

    Every product is counted, and every layer reads its input, writes its output and reads its
    weights once; all else is taken to be fused into them.
    """
    flops, moved, weights = _work(net, graph)
    size = 2 if precision == "fp16" else 4
    notes.add(net.name, f"{graph} {precision} work", flops / 1e9, "GFLOP a row")
    notes.add(net.name, f"{graph} {precision} traffic", size * moved / 1e6, "MB a row")
    if peak is None:
        return
    compute = bucket * flops / (peak.fp16 if precision == "fp16" else peak.float32)
    traffic = size * (bucket * moved + weights) / peak.bandwidth
    bound = "compute" if compute > traffic else "memory"
    floor = bucket / max(compute, traffic)
    notes.add(net.name, f"{graph} {precision} floor, by {bound}", floor, "rows/s")
    notes.add(net.name, f"raw {graph} {precision} of the floor", 100 * rate / floor, "%")


def _work(net: Net, graph: str) -> tuple[int, int, int]:
    """FLOPs and elements moved, of one row, and elements of weights; counted, not run."""
    with torch.device("meta"):
        module = net.module(graph)
        moved = 0

        def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            nonlocal moved
            moved += inputs[0].numel() + output.numel()

        for layer in module.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                layer.register_forward_hook(count)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(torch.zeros(1, *net.row_shape(graph)))
    weights = sum(math.prod(weight.shape) for weight in module.parameters())
    return counter.get_total_flops(), moved, weights


def _torch(
    net: Net,
    graph: str,
    precision: str,
    bucket: int,
    setting: Setting,
    notes: Notes,
    *,
    compiled: bool,
) -> None:
    """PyTorch on the same net, in TF32 or float16, channels last."""
    on = f"cuda:{setting.index}" if setting.on_cuda else "cpu"
    dtype = torch.float16 if precision == "fp16" else torch.float32
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    module = net.module(graph).to(on, dtype)
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if compiled:
        module.compile(dynamic=False)
    rows = torch.from_numpy(rows_of(net, graph, bucket)).to(device=on, dtype=dtype)

    @torch.no_grad()
    def run() -> None:
        module(rows)
        if setting.on_cuda:
            torch.cuda.synchronize()

    name = "torch.compile" if compiled else "torch eager"
    rate = bucket / median_s(run, setting.seconds / 4)
    notes.add(net.name, f"{name} {graph} {precision}, batch of {bucket}", rate, "rows/s")
