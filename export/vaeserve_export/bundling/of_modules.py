"""Export modules of a user's own: any encoder and decoder in PyTorch become a bundle."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vaeserve.v1 import bundle, model_pb2
from vaeserve_export.bundling import contents, reduced
from vaeserve_export.bundling.contents import RealRows
from vaeserve_export.bundling.golden import own_rows, row_count
from vaeserve_export.bundling.module_checks import probe_encoder, probe_pair, require_module
from vaeserve_export.bundling.pair import Pair, one_thread
from vaeserve_export.bundling.publish import place_of, publish
from vaeserve_export.errors import ExportError


def export_modules(
    encoder: nn.Module,
    decoder: nn.Module,
    *,
    name: str,
    repository: Path | str,
    input_shape: Sequence[int],
    likelihood: str,
    gaussian_variance: float | None = None,
    preprocessing: tuple[float, float] | None = None,
    calibration_rows: npt.NDArray[Any] | Tensor | None = None,
    precision: str = "float32",
    version: int | None = None,
) -> Path:
    """Export an encoder and a decoder of your own as a verified bundle.

    They are exported in eval mode, and have the modes they had when this returns. The bundle is
    proven as one of `vaeserve export` is: ONNX Runtime gives PyTorch's outputs in several batch
    sizes, and the graphs hold no randomness and nobody's paths. Equal modules give equal bytes.

    Args:
        encoder: x [rows, *input_shape] -> (mu, log_var), both [rows, ...] of one shape; log_var is
            the logarithm of the variance sigma^2. float32 on the CPU.
        decoder: z [rows, ...] of mu's shape -> the mean of p(x|z), [rows, *input_shape].
        name: of the model: lower-case letters, digits, dot, dash and underscore; at most 64.
        repository: folder of models; made if it is not there.
        input_shape: shape of one row: [channels, height, width] of pictures.
        likelihood: p(x|z): "bernoulli" (the decoder gives probabilities), "continuous-bernoulli"
            (it gives the parameter lambda) or "gaussian".
        gaussian_variance: of "gaussian", in squared model units; it must be given.
        preprocessing: (scale, offset) where rows are pictures: a uint8 level is the model value
            level * scale + offset, so (1 / 255, 0) for [0, 1]. Without it the service refuses
            uint8.
        calibration_rows: rows of your data [rows, *input_shape], a hundred or more: floats in model
            values, or uint8 levels, which become model values by `preprocessing`. Scores are placed
            among theirs, and a reduced precision is set and measured on them. They are not stored.
            Without them, decoded prior samples stand in: scores then tell what is usual for the
            model, not for the data.
        precision: "float32", "fp16" or "int8".
        version: a positive integer; by default one above the highest there is.

    Returns:
        The version's folder.

    Raises:
        ExportError: modules that cannot be served, with what to change; an impossible name,
            version, shape, likelihood or precision; a folder that cannot be written.
        VerifyError: ONNX Runtime does not reproduce PyTorch's outputs.
    """
    place_of(Path(repository), name, version)  # before the work
    contents.require_precision(precision)
    shape = tuple(input_shape)
    if not shape or min(shape) < 1:
        raise ExportError(f"input_shape {list(shape)}: give the shape of one row")
    require_module(encoder, "encoder")
    require_module(decoder, "decoder")
    info = _described(likelihood, gaussian_variance, preprocessing)
    bounded = info.likelihood != model_pb2.LIKELIHOOD_GAUSSIAN
    rows = None
    if calibration_rows is not None:
        rows = _checked(_model_values(calibration_rows, preprocessing), shape, bounded=bounded)
    with _in_eval(encoder, decoder), one_thread():
        latent_shape = probe_encoder(encoder, shape)
        pair = Pair(encoder=encoder, decoder=decoder, input_shape=shape, latent_shape=latent_shape)
        probe_pair(pair, bounded=bounded)
        # Ranges and cost on different rows: on the same, the cost would look better than it is.
        real = (
            None
            if rows is None
            else RealRows(ranges=_spread(rows[::2]), held_out=rows[1::2], source="given")
        )
        files = contents.fill(info, pair, precision, real)
        usual = own_rows(pair, row_count(pair))["x"] if rows is None else rows
    files[bundle.CALIBRATION] = contents.calibration(info, files, usual)
    return publish(files, info, Path(repository), name, version)


def _described(
    likelihood: str, variance: float | None, preprocessing: tuple[float, float] | None
) -> model_pb2.ModelInfo:
    """The part of the manifest that only the caller knows."""
    if likelihood not in contents.LIKELIHOODS:
        choices = ", ".join(contents.LIKELIHOODS)
        raise ExportError(f"likelihood {likelihood!r}: choose from {choices}")
    if (likelihood == "gaussian") != (variance is not None):
        raise ExportError(
            "gaussian_variance: give it with likelihood 'gaussian', and with that alone; "
            "0.5 if the model was trained with the squared error"
        )
    if variance is not None and not 0 < variance < math.inf:
        raise ExportError(f"gaussian_variance {variance}: must be above 0")
    info = model_pb2.ModelInfo(
        likelihood=contents.LIKELIHOODS[likelihood], gaussian_variance=variance or 0.0
    )
    if preprocessing is not None:
        scale, offset = preprocessing
        if not 0 < scale < math.inf or not math.isfinite(offset):
            raise ExportError(f"preprocessing {preprocessing}: give (scale above 0, offset)")
        info.preprocessing.scale, info.preprocessing.offset = scale, offset
    return info


def _model_values(
    rows: npt.NDArray[Any] | Tensor, preprocessing: tuple[float, float] | None
) -> npt.NDArray[np.float32]:
    """Rows as the service would give them to the encoder."""
    array = torch.as_tensor(rows).detach().cpu().numpy()
    if array.dtype == np.uint8 and preprocessing is not None:
        scale, offset = preprocessing
        array = array * scale + offset  # in doubles first, as the service computes it
    elif not np.issubdtype(array.dtype, np.floating):
        raise ExportError(
            f"calibration_rows: are {array.dtype}; give model values as floats"
            + (", or levels as uint8" if preprocessing else ", or levels and their preprocessing")
        )
    return np.ascontiguousarray(array, np.float32)


def _checked(array: npt.NDArray[np.float32], shape: tuple[int, ...], *, bounded: bool) -> Tensor:
    if array.shape[1:] != shape or len(array) < 2:
        raise ExportError(
            f"calibration_rows: {list(array.shape)}; give two rows or more of {list(shape)} each"
        )
    if not np.isfinite(array).all():
        raise ExportError("calibration_rows: hold NaN or infinite values")
    if bounded and not 0.0 <= array.min() <= array.max() <= 1.0:
        raise ExportError(
            f"calibration_rows: {array.min():g} to {array.max():g}; give model values in [0, 1]"
        )
    return torch.from_numpy(array)


def _spread(rows: Tensor) -> Tensor:
    """As many rows as ranges are set on, from first to last: they may be sorted by class."""
    count = min(len(rows), reduced.RANGE_ROWS)
    return rows[torch.linspace(0, len(rows) - 1, count).long()]


@contextmanager
def _in_eval(*modules: nn.Module) -> Iterator[None]:
    """Put modules in eval mode, and every part of them back as it was."""
    before = [(part, part.training) for module in modules for part in module.modules()]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for part, training in before:
            part.training = training
