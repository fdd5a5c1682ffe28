"""Check a bundle against its own golden rows, without PyTorch, and record what was measured.

    place       a folder MODEL/VERSION is the model and version of its manifest
    digests     every file is the one that the manifest lists
    contents    golden rows, calibration, prior, attributes are the arrays that they should be
    graphs      valid ONNX, deterministic, standard operators only, no path (graph_checks)
    precision   a graph is of the precision that the manifest states
    parity      ONNX Runtime gives PyTorch's outputs, whatever the batch size
    batch       how much a row's outputs depend on the batch it is in; recorded, 0 is bit-identical
    device      on a CUDA device, if one is named: parity, and bit-equality within a bucket
                (verify_device)

The figures go into the manifest. Only those of an int8 bundle stay the ones of its export: they are
the bar by which it is judged, which else would move with every verification.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaeserve.v1 import archives, bundle, model_pb2
from vaeserve_export.bundling.graph_checks import check_graph, check_precision
from vaeserve_export.bundling.verify_device import measure_cuda, replace_entries
from vaeserve_export.bundling.verify_parity import (
    BATCH_SIZES,
    Expected,
    Floats,
    cpu_tolerances,
    measure_batches,
)
from vaeserve_export.bundling.verify_sessions import (
    CPU,
    ORT_VERSION,
    Graphs,
    cpu_graphs,
    cuda_index,
)
from vaeserve_export.errors import VerifyError


@dataclass(frozen=True)
class Verification:
    """A bundle that passed.

    Attributes:
        info: its manifest, with the figures measured now.
        on_device: those measured on a CUDA device now, without TF32 and with it; empty for the CPU.
        recorded: whether the figures are in the file: not where the folder is read-only.
    """

    info: model_pb2.ModelInfo
    on_device: list[model_pb2.DeviceNumerics]
    recorded: bool


def verify(folder: Path, device: str = "cpu") -> Verification:
    """Verify a bundle, and write the measured figures into its manifest if they are new.

    Args:
        folder: the version's folder, with model.json in it.
        device: `cpu`; or `cuda` or `cuda:N`, to verify it there too.

    Raises:
        VerifyError: a file that is missing, damaged or outside the folder, a folder of another
            model or version, a graph that must not be served, outputs that are not PyTorch's, rows
            that depend on their neighbours; or no such device.
    """
    cuda = cuda_index(device)
    if not (folder / bundle.MANIFEST).exists() and list(folder.glob(f"[0-9]*/{bundle.MANIFEST}")):
        raise VerifyError(f"{folder}: is a model; give one of its versions, as {folder}/1")
    try:
        written = bundle.read_manifest(folder)
        files = bundle.read_files(folder, written)
        _check_place(folder, written)
        golden = _read_contents(files, written)
    except bundle.BundleError as error:
        raise VerifyError(str(error)) from error
    _check_graphs(written, files)
    manifest = _copy(written)
    on_cpu = cpu_graphs(written, files)
    measured = _measure_cpu(written, golden, on_cpu)
    if written.precision != model_pb2.PRECISION_INT8 or not written.HasField("numerics"):
        manifest.numerics.CopyFrom(measured)
    on_device = [] if cuda is None else measure_cuda(manifest, files, golden, on_cpu, cuda)
    replace_entries(manifest, on_device)
    recorded = manifest == written or _record(folder, manifest)
    info = _copy(manifest)
    info.numerics.CopyFrom(measured)
    return Verification(info, on_device, recorded)


def _copy(info: model_pb2.ModelInfo) -> model_pb2.ModelInfo:
    copied = model_pb2.ModelInfo()
    copied.CopyFrom(info)
    return copied


def _measure_cpu(
    info: model_pb2.ModelInfo, golden: dict[str, Floats], on_cpu: Graphs
) -> model_pb2.Numerics:
    mu, log_var, x_hat = cpu_tolerances(info)
    (parity_mu, parity_log_var), encoder_batch = measure_batches(
        on_cpu.encode,
        info.encoder,
        golden["x"],
        [Expected(golden["mu"], mu), Expected(golden["log_var"], log_var)],
    )
    (parity_x_hat,), decoder_batch = measure_batches(
        on_cpu.decode, info.decoder, golden["z"], [Expected(golden["x_hat"], x_hat)]
    )
    return model_pb2.Numerics(
        provider=CPU,
        rows=len(golden["x"]),
        parity_mu=parity_mu,
        parity_log_var=parity_log_var,
        parity_x_hat=parity_x_hat,
        batch_difference=max(encoder_batch, decoder_batch),
        onnxruntime_version=ORT_VERSION,
    )


def _record(folder: Path, info: model_pb2.ModelInfo) -> bool:
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
