"""Bundles of the nets: made here unless the folder that was given holds them.

`export_modules` proves a bundle on 64 golden rows and more, on one CPU thread: hours for pictures
of 512x512, and half a gigabyte. These have a few rows, computed on the device if there is one; the
gpu tests and the parity figures take the place of the proof. Their calibration is a stand-in.
"""

import math
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn

from gpu_check.findings import Finding, Notes
from gpu_check.nets import Net
from gpu_check.parts import Setting
from vaeserve.v1 import bundle, model_pb2
from vaeserve_export import npz
from vaeserve_export.bundling import golden, onnx_graphs, reduced
from vaeserve_export.bundling.contents import LIKELIHOODS, PRECISIONS as KINDS
from vaeserve_export.bundling.pair import Pair
from vaeserve_export.vae.calibration import summarise
from vaeserve_export.vae.objective import Terms, kl_nats

PRECISIONS = ("float32", "fp16")
_MOST_GOLDEN_ROWS, _FEWEST_GOLDEN_ROWS = 64, 2


def repository_of(setting: Setting, net: Net, precision: str) -> Path:
    """The repository that holds this bundle alone, whether or not it is there."""
    return setting.bundles / model_name(net, precision)


def model_name(net: Net, precision: str) -> str:
    """Name that it is served by."""
    return net.name if precision == "float32" else f"{net.name}-{precision}"


def graph_bytes(setting: Setting, net: Net, precision: str, graph: str) -> bytes:
    """The ONNX file of `encoder` or `decoder`."""
    file = {"encoder": bundle.ENCODER, "decoder": bundle.DECODER}[graph]
    folder = repository_of(setting, net, precision) / model_name(net, precision) / "1"
    return (folder / file).read_bytes()


def make_missing(
    nets: Sequence[Net], setting: Setting, known: Sequence[Finding], notes: Notes
) -> None:
    """The part: every bundle that is not there is made."""
    del known
    for net in nets:
        missing = [
            precision
            for precision in PRECISIONS
            if not (repository_of(setting, net, precision) / model_name(net, precision)).is_dir()
        ]
        if missing:
            _make(setting, net, missing)
        for precision in PRECISIONS:
            files = (repository_of(setting, net, precision)).rglob("*")
            size = sum(file.stat().st_size for file in files if file.is_file())
            notes.add(net.name, f"bundle {precision}", size / 1e6, "MB")


def _make(setting: Setting, net: Net, precisions: Sequence[str]) -> None:
    encoder, decoder = (module.eval() for module in net.make())
    pair = Pair(
        encoder=encoder,
        decoder=decoder,
        input_shape=net.input_shape,
        latent_shape=net.latent_shape,
    )
    exact = {
        bundle.ENCODER: onnx_graphs.encoder_graph(pair),
        bundle.DECODER: onnx_graphs.decoder_graph(pair),
    }
    rows = _golden_rows(pair, setting)
    half = len(rows["x"]) // 2
    squares = (rows["x"][:half] - rows["x_hat"][:half]).square().flatten(1).sum(1)
    mu, log_var = rows["mu"].flatten(1)[:half], rows["log_var"].flatten(1)[:half]
    rest = {
        bundle.GOLDEN: npz.to_bytes({name: values.numpy() for name, values in rows.items()}),
        bundle.CALIBRATION: npz.to_bytes(
            summarise(Terms(squares, kl_nats(mu, log_var), mu, log_var))
        ),
    }
    for precision in precisions:
        graphs = exact
        if precision == "fp16":
            graphs = {
                file: reduced.half(content, file, whole_head=file == bundle.ENCODER)
                for file, content in exact.items()
            }
        name = model_name(net, precision)
        _write(repository_of(setting, net, precision) / name, graphs | rest, net, precision)


def _write(model: Path, files: dict[str, bytes], net: Net, precision: str) -> None:
    """One version, there as a whole or not at all."""
    info = model_pb2.ModelInfo(
        name=model.name,
        version=1,
        format_version=bundle.FORMAT_VERSION,
        likelihood=LIKELIHOODS[net.likelihood],
        gaussian_variance=0.5 if net.likelihood == "gaussian" else 0.0,
        preprocessing=model_pb2.Preprocessing(scale=net.level[0], offset=net.level[1]),
        precision=KINDS[precision],
        input_shape=net.input_shape,
        latent_shape=net.latent_shape,
        encoder=model_pb2.Graph(
            file=bundle.ENCODER,
            input_name=onnx_graphs.ENCODER_INPUT,
            output_names=onnx_graphs.ENCODER_OUTPUTS,
        ),
        decoder=model_pb2.Graph(
            file=bundle.DECODER,
            input_name=onnx_graphs.DECODER_INPUT,
            output_names=onnx_graphs.DECODER_OUTPUTS,
        ),
        latent_space_id=bundle.latent_space_id(files[bundle.ENCODER], files[bundle.DECODER]),
        files=[bundle.digest(name, files[name]) for name in sorted(files)],
    )
    model.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=model.parent, prefix=".") as folder:
        version = Path(folder) / "1"
        version.mkdir()
        for name, content in files.items():
            (version / name).write_bytes(content)
        bundle.write_manifest(version, info)
        model.mkdir()
        version.rename(model / "1")


class _Elsewhere(nn.Module):
    """A module on a device, between tensors on the CPU."""

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.module = module.to(device)
        self.device = device

    def forward(self, rows: Tensor) -> Tensor | tuple[Tensor, ...]:
        output = self.module(rows.to(self.device))
        if isinstance(output, Tensor):
            return output.cpu()
        return tuple(part.cpu() for part in output)


def _golden_rows(pair: Pair, setting: Setting) -> dict[str, Tensor]:
    """A few golden rows, in full float32; the pair's modules are moved."""
    device = torch.device("cpu")
    if setting.on_cuda:
        with suppress(RuntimeError, AssertionError):  # a torch without CUDA takes longer
            device = torch.zeros(1, device=f"cuda:{setting.index}").device
    torch.backends.cudnn.allow_tf32 = False
    row_bytes = 4 * (2 * math.prod(pair.input_shape) + 3 * math.prod(pair.latent_shape))
    fitting = golden.MOST_BYTES // row_bytes
    rows = min(_MOST_GOLDEN_ROWS, max(_FEWEST_GOLDEN_ROWS, fitting))
    moved = Pair(
        encoder=_Elsewhere(pair.encoder, device),
        decoder=_Elsewhere(pair.decoder, device),
        input_shape=pair.input_shape,
        latent_shape=pair.latent_shape,
    )
    return golden.own_rows(moved, rows)
