"""What every bundle holds, wherever its modules come from: graphs, golden rows, figures."""

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

from vaeserve.v1 import bundle, model_pb2
from vaeserve.v1.noise import Stream, standard_normal
from vaeserve_export import npz
from vaeserve_export.bundling import onnx_graphs, reduced
from vaeserve_export.bundling.golden import golden_rows, own_rows, row_count
from vaeserve_export.bundling.pair import Pair, one_thread
from vaeserve_export.errors import ExportError
from vaeserve_export.trained import of_bundle
from vaeserve_export.trained.of_bundle import BundleSubject
from vaeserve_export.trained.terms import terms
from vaeserve_export.vae.calibration import summarise
from vaeserve_export.vae.model import reparameterise

LIKELIHOODS = {name: likelihood for likelihood, name in of_bundle.LIKELIHOODS.items()}
PRECISIONS = {
    "float32": model_pb2.PRECISION_FLOAT32,
    "fp16": model_pb2.PRECISION_FLOAT16,
    "int8": model_pb2.PRECISION_INT8,
}

_TOOLS = ("vaeserve", "torch", "onnx", "onnxscript")
_REDUCING_TOOL = "onnxruntime"
_NOISE_SEED = 0


@dataclass(frozen=True, kw_only=True)
class RealRows:
    """Rows of the data, by which a precision is set and measured; none of them is stored.

    Attributes:
        ranges: what int8's ranges are set on, of which the first are a sample,
            [rows, *input_shape].
        held_out: what the cost is measured on, [rows, *input_shape].
        source: what the manifest calls the latter.
    """

    ranges: Tensor
    held_out: Tensor
    source: str


def require_precision(precision: str) -> None:
    """Raise ExportError for a precision that is not offered, with the reason."""
    if precision == "dynamic-int8":
        raise ExportError(
            "dynamic-int8 is refused: its scale is taken over the whole batch, so that a caller's "
            "answer would depend on the other rows in the batch (by 0.065 in a pixel, as "
            "measured); use int8, whose scales are fixed"
        )
    if precision not in PRECISIONS:
        raise ExportError(f"precision {precision!r}: choose from {', '.join(PRECISIONS)}")


def fill(
    info: model_pb2.ModelInfo, pair: Pair, precision: str, real: RealRows | None
) -> dict[str, bytes]:
    """Make the graphs and golden rows of a pair.

    Args:
        info: gets shapes, graphs, precision with its cost, and tool versions; says the likelihood.
        pair: the modules.
        precision: of PRECISIONS.
        real: rows to measure a reduced precision on; rows of the model's own if None.

    Returns:
        Contents by file name.

    Raises:
        ExportError: modules that cannot be exported, or not in that precision.
        VerifyError: the exporter wrote what must not be published.
    """
    info.input_shape[:], info.latent_shape[:] = pair.input_shape, pair.latent_shape
    info.encoder.file, info.encoder.input_name = bundle.ENCODER, onnx_graphs.ENCODER_INPUT
    info.encoder.output_names[:] = onnx_graphs.ENCODER_OUTPUTS
    info.decoder.file, info.decoder.input_name = bundle.DECODER, onnx_graphs.DECODER_INPUT
    info.decoder.output_names[:] = onnx_graphs.DECODER_OUTPUTS
    info.precision = PRECISIONS[precision]
    tools = _TOOLS if precision == "float32" else (*_TOOLS, _REDUCING_TOOL)
    info.tool_versions.update({tool: metadata.version(tool) for tool in tools})
    with one_thread():
        files = {
            bundle.ENCODER: onnx_graphs.encoder_graph(pair),
            bundle.DECODER: onnx_graphs.decoder_graph(pair),
            bundle.GOLDEN: npz.to_bytes(dict(golden_rows(pair))),
        }
        if precision == "float32":
            return files
        return files | _reduce(info, files, pair, real or _own(pair))


def calibration(info: model_pb2.ModelInfo, files: dict[str, bytes], x: Tensor) -> bytes:
    """calibration.npz of the graphs as they are served, in their precision.

    Args:
        info: the manifest.
        files: with the graphs.
        x: rows among whose scores others are placed, [rows, *input_shape].
    """
    return npz.to_bytes(summarise(terms(BundleSubject(info, files, Path()), x, None)))


def _reduce(
    info: model_pb2.ModelInfo, files: dict[str, bytes], pair: Pair, real: RealRows
) -> dict[str, bytes]:
    """The graphs in info's precision, whose cost is entered there."""
    if info.precision == model_pb2.PRECISION_FLOAT16:
        graphs = _half(files)
    else:
        graphs = _int8(files, pair, real.ranges[: reduced.RANGE_ROWS])
    exact, rough = (
        _negative_elbo(BundleSubject(info, content, Path()), real.held_out)
        for content in (files, graphs)
    )
    info.precision_cost_nats = float((rough - exact).mean())
    info.precision_cost_rows = real.source
    return graphs


def _half(files: dict[str, bytes]) -> dict[str, bytes]:
    return {
        bundle.ENCODER: reduced.half(files[bundle.ENCODER], "encoder", whole_head=True),
        bundle.DECODER: reduced.half(files[bundle.DECODER], "decoder", whole_head=False),
    }


def _int8(files: dict[str, bytes], pair: Pair, x: Tensor) -> dict[str, bytes]:
    """Half of the latents that set the decoder's ranges come from rows, half from the prior."""
    mu, log_var = pair.encode(x)
    eps = _noise(len(x), mu[0].numel()).reshape(mu.shape)
    z = reparameterise(mu, log_var, eps)
    z[::2] = eps[::2]
    return {
        bundle.ENCODER: reduced.int8(files[bundle.ENCODER], "encoder", x.numpy()),
        bundle.DECODER: reduced.int8(files[bundle.DECODER], "decoder", z.numpy()),
    }


def _own(pair: Pair) -> RealRows:
    """Decoded prior samples, other than the golden rows."""
    rows = row_count(pair)
    ranges, held_out = (own_rows(pair, rows, first_row=2 * rows * part)["x"] for part in (1, 2))
    return RealRows(ranges=ranges, held_out=held_out, source="own")


def _negative_elbo(subject: BundleSubject, x: Tensor) -> Tensor:
    """-ELBO of every row in nats, in float64; the same noise whatever the graphs."""
    found = terms(subject, x, _noise(len(x), subject.latent_dim))
    return found.reconstruction.double() + found.kl.double()


def _noise(rows: int, size: int) -> Tensor:
    draws = standard_normal(_NOISE_SEED, Stream.POSTERIOR, first_row=0, rows=rows, size=size)
    return torch.from_numpy(draws[:, 0])
