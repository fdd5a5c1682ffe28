"""Ex-post density estimation: a prior fitted to where the encoder really puts the data.

Ghosh, Sajjadi, Vergari, Black, Schoelkopf, "From Variational to Deterministic Autoencoders", ICLR
2020, section 4: a Gaussian mixture with full covariances, fitted after training. Here to draws from
the posteriors and not to their means, since it is draws that the decoder was trained on: the means
alone spread less than what it knows.

Dimensions that no row moves (Var mu <= 0.01, `active`) stay N(0, 1), independent of all others, for
that is what their posterior is. A full covariance over them would fit noise only, at a cost in
held-out density that grows with their square.
"""

import warnings
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from vaeserve.v1 import model_pb2
from vaeserve.v1.archives import Doubles, Mixture
from vaeserve.v1.noise import Floats
from vaeserve_export.data.dataset import Dataset, training_rows
from vaeserve_export.errors import LatentError
from vaeserve_export.latent.mixture import log_density, log_standard
from vaeserve_export.latent.posterior import CHOOSING_FRACTION, encode
from vaeserve_export.trained.subject import Subject
from vaeserve_export.vae.calibration import ACTIVE_VARIANCE

COMPONENTS = (1, 2, 5, 10, 20, 50, 100)
"""What `components=None` tries, in this order, until the density of rows apart gets worse."""

MOST_ROWS = 20_000
"""More rows cost time and change the fit little."""

_ROWS_A_COMPONENT = 10


class PriorFit(NamedTuple):
    """A fitted prior.

    Attributes:
        mixture: over all latent elements.
        entry: what the manifest says of it.
        tried: mean -log density of the choosing rows by number of components, nats a row.
        active: latent dimensions that the mixture covers; the others stay N(0, 1).
        warnings: what speaks against using it, a line each.
    """

    mixture: Mixture
    entry: model_pb2.FittedPrior
    tried: dict[int, float]
    active: int
    warnings: list[str]


def fit_prior(
    subject: Subject, data: Dataset, *, components: int | None = None, seed: int = 0
) -> PriorFit:
    """Fit a Gaussian mixture to posterior draws, one a row, on one thread.

    The rows that a training with this seed validates on report the held-out density, a fifth of the
    others chooses the number of components, the rest is fitted to.

    Args:
        subject: the model.
        data: that it was trained on, in the values that it takes.
        components: how many; None chooses.
        seed: of the split, the draws and the fit.

    Raises:
        DataError: rows that the model does not take.
        LatentError: too few rows, or no active dimension.
    """
    train, held_out = training_rows(data, seed)
    posteriors = encode(subject, train.shuffled(seed).x)
    active = np.flatnonzero(posteriors.mu.var(0) > ACTIVE_VARIANCE)
    if not active.size:
        raise LatentError(
            f"{subject.origin.name}: no latent dimension is active: there is nothing to fit"
        )
    z = posteriors.draws(seed)
    choose = max(1, int(len(z) * CHOOSING_FRACTION))
    fit = z[choose:][:MOST_ROWS]
    counts = COMPONENTS if components is None else (components,)
    _require_enough(len(fit), counts[0], len(active))
    tried: dict[int, float] = {}
    mixtures: dict[int, Mixture] = {}
    for count in counts:
        if mixtures and len(fit) < _ROWS_A_COMPONENT * count:
            break
        mixtures[count] = _widen(_fit(fit[:, active], count, seed), active, z.shape[1])
        tried[count] = -float(log_density(mixtures[count], z[:choose]).mean())
        if tried[count] > min(tried.values()):
            break
    best = mixtures[min(tried, key=lambda count: tried[count])]
    z_held_out = encode(subject, held_out.x).draws(seed)
    entry = model_pb2.FittedPrior(
        components=len(best.weights),
        rows=len(fit),
        held_out_nats=-float(log_density(best, z_held_out).mean()),
        standard_nats=-float(log_standard(z_held_out).mean()),
    )
    return PriorFit(best, entry, tried, len(active), _warnings(entry))


def _require_enough(rows: int, components: int, active: int) -> None:
    """Refuse what would be fitted to noise: a covariance of d dimensions needs more than d rows."""
    if rows < _ROWS_A_COMPONENT * components:
        wanted = "one component" if components == 1 else f"{components} components"
        raise LatentError(
            f"{rows} rows to fit to are too few for {wanted}: use {_ROWS_A_COMPONENT} rows for each"
        )
    if rows <= active:
        raise LatentError(
            f"{rows} rows to fit to are too few for a covariance of {active} dimensions: use at "
            f"least {active + 1}, better {_ROWS_A_COMPONENT * active}"
        )


def _warnings(entry: model_pb2.FittedPrior) -> list[str]:
    loss = entry.held_out_nats - entry.standard_nats
    if loss <= 0:
        return []
    return [
        f"warning: the fitted prior is worse than N(0, I), by {loss:.2f} nats a held-out draw: "
        "sample from N(0, I), or fit it to more rows or with fewer components"
    ]


def _fit(z: Floats, components: int, seed: int) -> GaussianMixture:
    # As a number where scikit-learn takes it as one, which is below 2^32.
    random = seed if seed < 2**32 else np.random.RandomState(np.random.MT19937(seed))
    model = GaussianMixture(components, covariance_type="full", max_iter=200, random_state=random)
    # Rounding, and so the last digits of the result, would depend on the number of threads.
    with threadpool_limits(1), warnings.catch_warnings():
        # A fit that could still creep is no worse by a digit that counts.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(z.astype(np.float64))


def _widen(model: GaussianMixture, active: npt.NDArray[np.intp], size: int) -> Mixture:
    """The mixture over all dimensions: N(0, 1) beside the active ones."""
    count = len(model.weights_)
    means: Doubles = np.zeros((count, size))
    means[:, active] = model.means_
    cholesky: Doubles = np.tile(np.eye(size), (count, 1, 1))
    # In rows and columns that keep their order the factor stays lower triangular.
    cholesky[:, active[:, None], active] = np.linalg.cholesky(model.covariances_)
    return Mixture(model.weights_ / model.weights_.sum(), means, cholesky)
