"""Check a bundle against its own golden rows, without PyTorch, and record what was measured.

    place       a folder MODEL/VERSION is the model and version of its manifest
    digests     every file is the one that the manifest lists
    contents    golden rows, calibration, prior, attributes are the arrays that they should be
    graphs      valid ONNX, deterministic, standard operators only, no path (graph_checks)
    precision   a graph is of the precision that the manifest states
    parity      ONNX Runtime gives PyTorch's outputs, whatever the batch size
    batch       how much a row's outputs depend on the batch it is in; recorded, 0 is bit-identical

The figures go into the manifest. How far outputs may be from PyTorch's depends on the precision:
_TOLERANCES.
"""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

# ONNX Runtime reports its use to its maker, from its import on, unless told not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

from vaeserve.v1 import archives, bundle, model_pb2
from vaeserve_export.bundling.graph_checks import check_graph, check_precision
from vaeserve_export.errors import VerifyError

PROVIDER = "CPUExecutionProvider"
BATCH_SIZES = (1, 2, 7, 64)


class Tolerance(NamedTuple):
    """|output - PyTorch's| <= absolute + relative * |PyTorch's|, element by element."""

    absolute: float
    relative: float


_TOLERANCES = {
    model_pb2.PRECISION_UNSPECIFIED: Tolerance(1e-5, 1e-4),
    model_pb2.PRECISION_FLOAT32: Tolerance(1e-5, 1e-4),
    model_pb2.PRECISION_FLOAT16: Tolerance(2e-3, 1e-3),
    # Stated, not bounded: how far int8 is off depends on the model; its cost is in the manifest.
    model_pb2.PRECISION_INT8: Tolerance(math.inf, 0.0),
}

Floats = npt.NDArray[np.float32]
_Run = Callable[[Floats], list[Floats]]


@dataclass(frozen=True)
class Verification:
    """A bundle that passed.

    Attributes:
        info: its manifest, with the figures.
        recorded: whether the figures are in the file: not where the folder is read-only.
    """

    info: model_pb2.ModelInfo
    recorded: bool


def verify(folder: Path) -> Verification:
    """Verify a bundle, and write the measured figures into its manifest if they are new.

    Args:
        folder: the version's folder, with model.json in it.

    Raises:
        VerifyError: a file that is missing, damaged or outside the folder, a folder of another
            model or version, a graph that must not be served, or outputs that are not PyTorch's.
    """
    if not (folder / bundle.MANIFEST).exists() and list(folder.glob(f"[0-9]*/{bundle.MANIFEST}")):
        raise VerifyError(f"{folder}: is a model; give one of its versions, as {folder}/1")
    try:
        info = bundle.read_manifest(folder)
        files = bundle.read_files(folder, info)
        _check_place(folder, info)
        golden = _read_contents(files, info)
    except bundle.BundleError as error:
        raise VerifyError(str(error)) from error
    _check_graphs(info, files)
    encode = _session(info.encoder, files)
    decode = _session(info.decoder, files)
    mu, log_var, x_hat = _tolerances(info)
    (parity_mu, parity_log_var), encoder_batch = _measure(
        encode,
        info.encoder,
        golden["x"],
        [(golden["mu"], mu), (golden["log_var"], log_var)],
    )
    (parity_x_hat,), decoder_batch = _measure(
        decode, info.decoder, golden["z"], [(golden["x_hat"], x_hat)]
    )
    measured = model_pb2.Numerics(
        provider=PROVIDER,
        rows=len(golden["x"]),
        parity_mu=parity_mu,
        parity_log_var=parity_log_var,
        parity_x_hat=parity_x_hat,
        batch_difference=max(encoder_batch, decoder_batch),
        onnxruntime_version=ort.__version__,
    )
    return Verification(info, _record(folder, info, measured))


def _tolerances(info: model_pb2.ModelInfo) -> list[Tolerance]:
    """Of mu, log_var and x_hat."""
    numerics = info.numerics
    if info.precision == model_pb2.PRECISION_INT8 and info.HasField("numerics"):
        recorded = (numerics.parity_mu, numerics.parity_log_var, numerics.parity_x_hat)
        return [Tolerance(bundle.int8_allowance(parity), 0.0) for parity in recorded]
    return [_TOLERANCES[info.precision]] * 3


def _record(folder: Path, info: model_pb2.ModelInfo, measured: model_pb2.Numerics) -> bool:
    if info.numerics == measured:
        return True
    info.numerics.CopyFrom(measured)
    try:
        bundle.write_manifest(folder, info)
    except OSError:
        return False
    return True


def _check_place(folder: Path, info: model_pb2.ModelInfo) -> None:
    """A version served from another model's folder would go by two names."""
    place = folder.resolve()
    if place.name.isdecimal() and (place.parent.name, place.name) != (info.name, str(info.version)):
        raise VerifyError(
            f"{folder}: is {info.name} version {info.version} by its manifest, "
            f"but lies in {place.parent.name}/{place.name}"
        )


def _read_contents(files: dict[str, bytes], info: model_pb2.ModelInfo) -> dict[str, Floats]:
    """Check every archive; the golden rows are returned."""
    archives.read_calibration(files[bundle.CALIBRATION], info)
    if bundle.PRIOR in files:
        archives.read_prior(files[bundle.PRIOR], info)
    if bundle.ATTRIBUTES in files:
        archives.read_attributes(files[bundle.ATTRIBUTES], info)
    return _read_golden(files[bundle.GOLDEN], info)


def _read_golden(content: bytes, info: model_pb2.ModelInfo) -> dict[str, Floats]:
    arrays = archives.read(bundle.GOLDEN, content, ("x", "mu", "log_var", "z", "x_hat"))
    pictures, latents = tuple(info.input_shape), tuple(info.latent_shape)
    shapes = {"x": pictures, "x_hat": pictures, "mu": latents, "log_var": latents, "z": latents}
    for name, array in arrays.items():
        wanted = (*arrays["x"].shape[:1], *shapes[name])
        if array.dtype != np.float32 or array.shape != wanted:
            raise VerifyError(
                f"{bundle.GOLDEN}: {name} is {array.dtype} {list(array.shape)}, by the manifest it "
                f"is float32 {list(wanted)}"
            )
    rows, needed = len(arrays["x"]), max(BATCH_SIZES)
    if rows < needed:
        raise VerifyError(f"{bundle.GOLDEN}: {rows} rows are too few: {needed} fill a batch")
    return arrays


def _check_graphs(info: model_pb2.ModelInfo, files: dict[str, bytes]) -> None:
    graphs = (info.encoder, info.decoder)
    models = [
        check_graph(files[graph.file], graph.file, graph.input_name, graph.output_names)
        for graph in graphs
    ]
    check_precision(models, info.precision)


def _session(graph: model_pb2.Graph, files: dict[str, bytes]) -> _Run:
    """Load a graph; on one thread, so that figures do not vary with the machine."""
    content = files[graph.file]
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(content, options, providers=[PROVIDER])
    except Exception as error:  # its exceptions share no base class
        raise VerifyError(f"{graph.file}: ONNX Runtime cannot load it: {error}") from error
    names = list(graph.output_names)
    return lambda rows: list(session.run(names, {graph.input_name: rows}))


def _measure(
    run: _Run,
    graph: model_pb2.Graph,
    rows: Floats,
    expected: list[tuple[Floats, Tolerance]],
) -> tuple[list[float], float]:
    """Run the rows in several batch sizes.

    Args:
        run: runs the graph.
        graph: its names, for messages.
        rows: its inputs.
        expected: what PyTorch made of them, and how far from it each output may be.

    Returns:
        The largest difference from what is expected, for each output; and the largest difference
        between a batch size and all rows at once, over all outputs.
    """
    whole = _run_in_batches(run, graph, rows, len(rows))
    parity = [0.0] * len(expected)
    batch_difference = 0.0
    for size in (*BATCH_SIZES, len(rows)):
        outputs = _run_in_batches(run, graph, rows, size)
        for index, (output, (wanted, tolerance)) in enumerate(zip(outputs, expected, strict=True)):
            what = f"{graph.file}: {graph.output_names[index]}"
            difference = _difference(output, wanted, tolerance, what, size)
            parity[index] = max(parity[index], difference)
            apart = float(np.abs(output - whole[index]).max())
            batch_difference = max(batch_difference, apart)
    return parity, batch_difference


def _run_in_batches(run: _Run, graph: model_pb2.Graph, rows: Floats, size: int) -> list[Floats]:
    try:
        parts = [run(rows[start : start + size]) for start in range(0, len(rows), size)]
        return [np.concatenate(column) for column in zip(*parts, strict=True)]
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise VerifyError(f"{graph.file}: cannot run {size} rows: {error}") from error


def _difference(
    output: Floats, wanted: Floats, tolerance: Tolerance, what: str, size: int
) -> float:
    if output.shape != wanted.shape:
        raise VerifyError(f"{what} has shape {list(output.shape)}, not {list(wanted.shape)}")
    difference = np.abs(output - wanted)
    # Written so that a NaN fails.
    if not (difference <= tolerance.absolute + tolerance.relative * np.abs(wanted)).all():
        raise VerifyError(
            f"{what} differs from PyTorch's by {difference.max():.2g} in batches of {size}"
        )
    return float(difference.max())
