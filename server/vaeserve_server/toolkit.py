"""What a bundle knows of its latent space beside the graphs: scores, fitted prior, directions."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from vaeserve.v1 import archives, bundle, model_pb2
from vaeserve.v1.archives import Calibration
from vaeserve.v1.noise import Doubles
from vaeserve_server.fitted_prior import FittedPrior

# Engines agree on a row's score to about this share of it (of 1 nat where it is less).
_ROUNDING = 1e-4
_LARGEST = float(np.finfo(np.float64).max)  # infinite scores stay infinite: they are refused later


@dataclass(frozen=True)
class Toolkit:
    """The parts of a bundle that Sample, Edit and Score need.

    Attributes:
        calibration: scores of the validation rows.
        prior: the fitted one; None where none was fitted.
        directions: by attribute, float64 [d], ordered by name.
    """

    calibration: Calibration
    prior: FittedPrior | None = None
    directions: Mapping[str, Doubles] = field(default_factory=dict)

    def statistics(self) -> model_pb2.LatentStatistics:
        """The aggregated posterior as the catalogue shows it."""
        return model_pb2.LatentStatistics(
            mu_mean=self.calibration.mu_mean.tolist(),
            mu_variance=self.calibration.mu_variance.tolist(),
            sigma2_mean=self.calibration.sigma2_mean.tolist(),
        )

    def percentile(self, negative_elbo: Doubles) -> Doubles:
        """Percentage 0..100 of the validation rows that score lower; of those alike, one half.

        Args:
            negative_elbo: at mu, nats, [rows].
        """
        return _place(negative_elbo, self.calibration.negative_elbo_nats, self.calibration.percent)

    def typicality(self, reconstruction: Doubles, kl: Doubles) -> Doubles:
        """How near to the middle of the validation rows both terms are, 0..1.

        The lower of the terms' two-sided shares: a row that is unusual in one of them is unusual,
        and their sum may hide it.

        Args:
            reconstruction: at mu, nats, [rows].
            kl: nats, [rows].
        """
        known = self.calibration
        places = np.stack(
            [
                _place(reconstruction, known.reconstruction_nats, known.percent),
                _place(kl, known.kl_nats, known.percent),
            ]
        )
        return np.asarray(2 * np.minimum(places, 100 - places).min(axis=0) / 100)


def _place(nats: Doubles, known: Doubles, percent: Doubles) -> Doubles:
    """Where scores stand among percentiles: between two linear, in the middle of equal ones.

    Rows that score alike, as pictures of one level do, differ by rounding here and where they were
    calibrated, so that just below and just above are asked.

    Args:
        nats: the scores, any shape.
        known: score at each percentile, not falling.
        percent: the percentiles.
    """
    rounding = _ROUNDING * np.clip(np.abs(nats), 1.0, _LARGEST)
    below = np.interp(nats - rounding, known, percent)
    return np.asarray((below + np.interp(nats + rounding, known, percent)) / 2)


def read_toolkit(files: Mapping[str, bytes], info: model_pb2.ModelInfo) -> Toolkit:
    """Read it from the files of a bundle.

    Raises:
        bundle.BundleError: a file is not what the manifest says.
    """
    prior, directions = None, {}
    if bundle.PRIOR in files:
        prior = FittedPrior(archives.read_prior(files[bundle.PRIOR], info))
    if bundle.ATTRIBUTES in files:
        vectors = archives.read_attributes(files[bundle.ATTRIBUTES], info).astype(np.float64)
        names = [attribute.name for attribute in info.attributes]
        directions = dict(zip(names, vectors, strict=True))
    calibration = archives.read_calibration(files[bundle.CALIBRATION], info)
    return Toolkit(calibration, prior, directions)
