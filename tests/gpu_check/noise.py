"""Part: what the draws of a Sample cost, made on the host and copied, beside draws on the device.

The noise of a seed is Philox4x64-10 (vaeserve.v1.noise). No ONNX graph makes it on CUDA: that
provider has neither BitwiseXor nor BitShift, and xor of 64-bit words out of arithmetic is thousands
of kernels. PyTorch's generator on the device is Philox4x32-10 with Box-Muller: its time is the
floor, its bits are others.
"""

from collections.abc import Sequence

import onnxruntime as ort
import torch

from gpu_check.bundles import graph_bytes
from gpu_check.findings import Finding, Notes, value_of
from gpu_check.nets import Net
from gpu_check.parts import Setting
from gpu_check.raw import Bound, Floats, make_session, median_s, rows_of
from vaeserve.v1.noise import Stream, standard_normal

_SEED = 7
_ROWS = 64


def measure(nets: Sequence[Net], setting: Setting, known: Sequence[Finding], notes: Notes) -> None:
    """The part."""
    for net in nets:
        best = value_of(known, net.name, "raw decoder float32, best batch")
        _measure(net, int(best or min(_ROWS, net.most_rows)), setting, notes)


def _measure(net: Net, rows: int, setting: Setting, notes: Notes) -> None:
    latents = rows_of(net, "decoder", rows)
    size = latents[0].size
    place = ("cuda", setting.index) if setting.on_cuda else ("cpu", 0)
    on_device = ort.OrtValue.ortvalue_from_numpy(latents, *place)

    def draw() -> Floats:
        return standard_normal(_SEED, Stream.PRIOR, first_row=0, rows=rows, size=size)

    def draw_there() -> None:
        torch.randn(rows, size, device=torch.device(*place))
        if setting.on_cuda:
            torch.cuda.synchronize()

    session = make_session(graph_bytes(setting, net, "float32", "decoder"), setting)
    bound = Bound(session, latents, setting)
    drawn, copied, there, run = (
        1e6 * median_s(work, setting.seconds / 4)
        for work in (draw, lambda: on_device.update_inplace(latents), draw_there, bound.run)
    )
    notes.add(net.name, f"noise of {rows} rows, on the host", drawn, "us")
    notes.add(net.name, f"noise of {rows} rows, copied", copied, "us")
    notes.add(net.name, f"noise of {rows} rows, torch there", there, "us, of other bits")
    notes.add(net.name, f"decoder run of {rows} rows", run, "us")
    share = 100 * (drawn + copied) / (drawn + copied + run)
    notes.add(net.name, "noise's share of a Sample", share, "% where nothing overlaps")
