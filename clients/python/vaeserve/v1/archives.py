"""The .npz archives of a bundle as checked arrays: what the server serves is what verify passed."""

import io
import zipfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vaeserve.v1 import bundle, model_pb2

Doubles = npt.NDArray[np.float64]

_SUM_TOLERANCE = 1e-6  # of the weights' sum: rounding, and no more


class Mixture(NamedTuple):
    """A Gaussian mixture over flattened latent rows; d elements in row-major order.

    Attributes:
        weights: [k], positive, summing to 1.
        means: [k, d].
        cholesky: lower factors of the covariances, [k, d, d].
    """

    weights: Doubles
    means: Doubles
    cholesky: Doubles


class Calibration(NamedTuple):
    """The scores of the validation rows, taken at mu, and their aggregated posterior.

    Attributes:
        percent: percentages 0..100, increasing, [p].
        kl_nats: KL at each of those percentiles, nats per row, [p].
        reconstruction_nats: -log p(x|z) likewise.
        negative_elbo_nats: their sum likewise.
        mu_mean: mean over rows of mu, [d].
        mu_variance: variance over rows of mu, [d].
        sigma2_mean: mean over rows of sigma^2, [d].
    """

    percent: Doubles
    kl_nats: Doubles
    reconstruction_nats: Doubles
    negative_elbo_nats: Doubles
    mu_mean: Doubles
    mu_variance: Doubles
    sigma2_mean: Doubles


def read(file: str, content: bytes, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """Read some of an archive's arrays; nothing is unpickled.

    Args:
        file: its name, for messages.
        content: its bytes.
        names: of the arrays.

    Raises:
        bundle.BundleError: no archive, a damaged one, or one without those arrays; one line.
    """
    if not zipfile.is_zipfile(io.BytesIO(content)):  # numpy would advise to unpickle it
        raise bundle.BundleError(f"{file}: cannot be read: it is no .npz archive")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in names}
    except Exception as error:  # damaged bytes raise nearly every class there is
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise bundle.BundleError(f"{file}: cannot be read: {text}") from error
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):  # numpy gives a member of another kind as bytes
            raise bundle.BundleError(f"{file}: cannot be read: {name} is no array")
    return arrays


def read_calibration(content: bytes, info: model_pb2.ModelInfo) -> Calibration:
    """The figures of calibration.npz.

    Args:
        content: bytes of the file.
        info: the manifest, which says how many latent elements there are.

    Raises:
        bundle.BundleError: arrays of another shape or kind, values that are not finite, or
            percentiles that fall.
    """
    arrays = read(bundle.CALIBRATION, content, Calibration._fields)
    percentiles = (arrays["percent"].size,)
    for name, array in arrays.items():
        shape = percentiles if name in Calibration._fields[:4] else (_elements(info),)
        _require(bundle.CALIBRATION, name, array, "float64", shape)
    calibration = Calibration(**arrays)
    if len(calibration.percent) < 2 or (np.diff(calibration.percent) <= 0).any():
        raise bundle.BundleError(f"{bundle.CALIBRATION}: percent must increase")
    for name, values in zip(Calibration._fields[1:4], calibration[1:4], strict=True):
        if (np.diff(values) < 0).any():
            raise bundle.BundleError(f"{bundle.CALIBRATION}: {name} must not fall")
    return calibration


def read_prior(content: bytes, info: model_pb2.ModelInfo) -> Mixture:
    """The mixture of prior.npz.

    Args:
        content: bytes of the file.
        info: the manifest, which says how many components and latent elements there are.

    Raises:
        bundle.BundleError: arrays of another shape or kind, values that are not finite, or no
            mixture: weights that do not sum to 1, factors that are not lower or not positive.
    """
    k, d = info.prior.components, _elements(info)
    shapes = {"weights": (k,), "means": (k, d), "cholesky": (k, d, d)}
    arrays = read(bundle.PRIOR, content, tuple(shapes))
    for name, shape in shapes.items():
        _require(bundle.PRIOR, name, arrays[name], "float64", shape)
    mixture = Mixture(**arrays)
    if not k or (mixture.weights <= 0).any() or abs(mixture.weights.sum() - 1) > _SUM_TOLERANCE:
        raise bundle.BundleError(f"{bundle.PRIOR}: weights must be positive and sum to 1")
    diagonal = np.diagonal(mixture.cholesky, axis1=1, axis2=2)
    if (diagonal <= 0).any() or np.triu(mixture.cholesky, 1).any():
        raise bundle.BundleError(
            f"{bundle.PRIOR}: cholesky must be lower triangular with a positive diagonal"
        )
    return mixture


def read_attributes(content: bytes, info: model_pb2.ModelInfo) -> npt.NDArray[np.float32]:
    """The directions of attributes.npz, [attributes, d], in the order of the manifest's attributes.

    Raises:
        bundle.BundleError: an array of another shape or kind, values that are not finite, a
            direction of length 0, or names that are empty, repeated or not in order.
    """
    names = [attribute.name for attribute in info.attributes]
    if not all(names) or names != sorted(set(names)):
        raise bundle.BundleError(
            f"{bundle.MANIFEST}: attributes must have names of their own, in order"
        )
    directions: npt.NDArray[np.float32]
    directions = read(bundle.ATTRIBUTES, content, ("directions",))["directions"]
    shape = (len(names), _elements(info))
    _require(bundle.ATTRIBUTES, "directions", directions, "float32", shape)
    if not directions.any(axis=1).all():
        raise bundle.BundleError(f"{bundle.ATTRIBUTES}: a direction is zero")
    return directions


def _elements(info: model_pb2.ModelInfo) -> int:
    """Elements of a latent row."""
    return int(np.prod(info.latent_shape))


def _require(
    file: str, name: str, array: npt.NDArray[Any], dtype: str, shape: tuple[int, ...]
) -> None:
    if array.dtype != dtype or array.shape != shape:
        raise bundle.BundleError(
            f"{file}: {name} is {array.dtype} {list(array.shape)}, by the manifest it is "
            f"{dtype} {list(shape)}"
        )
    if not np.isfinite(array).all():
        raise bundle.BundleError(f"{file}: {name} holds NaN or infinite values")
