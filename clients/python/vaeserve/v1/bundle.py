"""The bundle: one version of a model as a folder, and the manifest that describes and seals it.

    <repository>/<model>/<version>/model.json       ModelInfo as JSON
                                   encoder.onnx     x -> mu, log_var
                                   decoder.onnx     z -> x_hat
                                   golden.npz       x, mu, log_var, z, x_hat by PyTorch
                                   calibration.npz  percentiles of the validation scores,
                                                    aggregated posterior
                                   prior.npz        optional: a Gaussian mixture of posterior draws:
                                                    weights [k], means [k, d], cholesky [k, d, d],
                                                    float64, d latent elements in row-major order
                                   attributes.npz   optional: directions [attributes, d] float32, in
                                                    the order of the manifest's attributes

Every file but the manifest is listed in it with its sha256. Nothing is pickled.
"""

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from google.protobuf import json_format

from vaeserve.v1 import model_pb2

MANIFEST = "model.json"
ENCODER = "encoder.onnx"
DECODER = "decoder.onnx"
GOLDEN = "golden.npz"
CALIBRATION = "calibration.npz"
PRIOR = "prior.npz"
ATTRIBUTES = "attributes.npz"
FORMAT_VERSION = 1

# Parity is proven on the exporting machine (1e-5); another processor sums in another order, another
# graph is far off.
_TOLERANCE = {False: 1e-4, True: 1e-2}  # by "with TF32", which rounds factors to 10 bits
_HALF_TOLERANCE = 1e-2  # float16 has those 10 bits everywhere
_INT8_STEPS = 0.01  # of an output's range


class Tolerance(NamedTuple):
    """How far an output may be from the golden rows, element by element.

    Sums round by a share of their largest terms, so that part of it is of the output's range: its
    largest |golden|, or 1 where that is less.

    Attributes:
        of_range: share of the range.
        relative: share of the element's own |golden|.
        absolute: whatever the values are.
    """

    of_range: float
    relative: float
    absolute: float = 0.0

    def allowed(self, golden: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """The largest |output - golden|, of golden's shape."""
        size = np.abs(golden, dtype=np.float64)
        output_range = max(1.0, float(size.max()))
        return np.asarray(self.absolute + self.of_range * output_range + self.relative * size)


class BundleError(ValueError):
    """A folder that is no sound bundle; the message says what is wrong with which file."""


def read_manifest(folder: Path) -> model_pb2.ModelInfo:
    """Parse model.json.

    Raises:
        BundleError: missing, not JSON, unknown fields or values that cannot be served, or a layout
            that this version does not know.
    """
    path = folder / MANIFEST
    try:
        info = json_format.Parse(path.read_text(encoding="utf-8"), model_pb2.ModelInfo())
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, json_format.ParseError) as error:
        raise BundleError(f"{path}: is no manifest: {error}") from error
    if info.format_version != FORMAT_VERSION:
        raise BundleError(
            f"{path}: format_version {info.format_version}; this version reads {FORMAT_VERSION}"
        )
    for problem in _problems(info):
        raise BundleError(f"{path}: {problem}")
    return info


def write_manifest(folder: Path, info: model_pb2.ModelInfo) -> None:
    """Write model.json, replacing an older one in a single step."""
    # Sorted, since a map's own order differs from process to process and equal bundles have equal
    # bytes.
    text = json_format.MessageToJson(
        info, preserving_proto_field_name=True, indent=2, sort_keys=True
    )
    fresh = folder / f".{MANIFEST}.new"
    fresh.write_text(text + "\n", encoding="utf-8")
    fresh.replace(folder / MANIFEST)


def digest(name: str, data: bytes) -> model_pb2.FileDigest:
    """The manifest's entry for a file."""
    return model_pb2.FileDigest(
        name=name, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data)
    )


def latent_space_id(encoder: bytes, decoder: bytes) -> str:
    """Identity of the latent space that a pair of graphs spans: 32 hex digits."""
    pair = hashlib.sha256(encoder).digest() + hashlib.sha256(decoder).digest()
    return hashlib.sha256(pair).hexdigest()[:32]


def golden_tolerances(info: model_pb2.ModelInfo, *, tf32: bool) -> dict[str, Tolerance]:
    """How far outputs may be from the golden rows on another processor than the exporter's.

    Args:
        info: the manifest, with the figures measured on the CPU.
        tf32: whether float32 factors are rounded to TF32's 10 bits there.

    Returns:
        Those of mu, log_var and x_hat.
    """
    tolerance = _TOLERANCE[tf32]
    if info.precision == model_pb2.PRECISION_FLOAT16:
        tolerance = max(tolerance, _HALF_TOLERANCE)
    names = ("mu", "log_var", "x_hat")
    if info.precision != model_pb2.PRECISION_INT8:
        return dict.fromkeys(names, Tolerance(tolerance, tolerance))
    measured = [getattr(info.numerics, f"parity_{name}") for name in names]
    return dict(zip(names, map(int8_allowance, measured), strict=True))


def int8_allowance(parity: float) -> Tolerance:
    """How far an int8 output may be from its golden row, wherever it is run.

    Sums in another order can round to the next step of a scale, and no further.

    Args:
        parity: how far it was when the bundle was written.
    """
    return Tolerance(_INT8_STEPS, 0.0, absolute=1.25 * parity)


def read_files(folder: Path, info: model_pb2.ModelInfo) -> dict[str, bytes]:
    """Read every listed file into memory and compare it with its digest.

    What is checked is what is returned, so a file that changes later cannot slip in.

    Raises:
        BundleError: a name that leaves the folder, a missing file, a wrong size or digest, graphs
            of another pair than the latent space id says, a needed file that is not listed, or a
            prior or attributes of which the manifest tells only in part.
    """
    contents = {entry.name: _read_checked(folder, entry) for entry in info.files}
    needed = {ENCODER, DECODER, GOLDEN, CALIBRATION, info.encoder.file, info.decoder.file}
    for name in sorted(needed - contents.keys()):
        raise BundleError(f"{folder / MANIFEST}: does not list {name or 'a graph file'}")
    told = {PRIOR: info.HasField("prior"), ATTRIBUTES: bool(info.attributes)}
    for name, described in told.items():
        if described != (name in contents):
            way = "describes but does not list" if described else "lists but does not describe"
            raise BundleError(f"{folder / MANIFEST}: {way} {name}")
    pair = latent_space_id(contents[info.encoder.file], contents[info.decoder.file])
    if pair != info.latent_space_id:
        raise BundleError(f"{folder / MANIFEST}: latent_space_id is not that of its two graphs")
    return contents


def _problems(info: model_pb2.ModelInfo) -> Iterator[str]:
    """What would fail later, at the first request that needs it."""
    for name, shape in (("input_shape", info.input_shape), ("latent_shape", info.latent_shape)):
        if not shape or min(shape) < 1:
            yield f"{name} {list(shape)} must be positive sizes"
    if info.likelihood == model_pb2.LIKELIHOOD_GAUSSIAN:
        if not 0 < info.gaussian_variance < math.inf:
            yield f"gaussian_variance {info.gaussian_variance} must be above 0"
    elif info.likelihood not in {
        model_pb2.LIKELIHOOD_BERNOULLI,
        model_pb2.LIKELIHOOD_CONTINUOUS_BERNOULLI,
    }:
        yield "likelihood must be Bernoulli, continuous Bernoulli or Gaussian"
    if info.HasField("preprocessing") and not 0 < info.preprocessing.scale < math.inf:
        yield f"preprocessing.scale {info.preprocessing.scale} must be above 0"
    if info.columns and [len(info.columns)] != info.input_shape:
        yield f"{len(info.columns)} columns do not fit input_shape {list(info.input_shape)}"
    for column in info.columns:
        if not (math.isfinite(column.mean) and 0 < column.scale < math.inf):
            yield f"column {column.name!r}: mean must be finite, scale above 0"


def _read_checked(folder: Path, entry: model_pb2.FileDigest) -> bytes:
    path = folder / entry.name
    plain = Path(entry.name).name == entry.name and entry.name.isprintable()
    if not plain or not path.resolve().is_relative_to(folder.resolve()):
        raise BundleError(f"{folder / MANIFEST}: {entry.name!r} lies outside the bundle's folder")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
    if digest(entry.name, data) != entry:
        raise BundleError(f"{path}: differs from its digest in {MANIFEST}; copy the bundle again")
    return data
