"""What the server says about its models, as small immutable records. Pure."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from vaeserve import _columns
from vaeserve._columns import Column
from vaeserve._device_numerics import DeviceNumerics
from vaeserve.v1 import model_pb2, model_service_pb2

_LIKELIHOODS = {
    model_pb2.LIKELIHOOD_BERNOULLI: "bernoulli",
    model_pb2.LIKELIHOOD_CONTINUOUS_BERNOULLI: "continuous-bernoulli",
    model_pb2.LIKELIHOOD_GAUSSIAN: "gaussian",
}
_PRECISIONS = {
    model_pb2.PRECISION_UNSPECIFIED: "float32",
    model_pb2.PRECISION_FLOAT32: "float32",
    model_pb2.PRECISION_FLOAT16: "float16",
    model_pb2.PRECISION_INT8: "int8",
}


@dataclass(frozen=True, slots=True)
class ModelState:
    """A model of the catalogue.

    Attributes:
        name: name of the model.
        version: version being served; 0 when none is.
        ready: whether it takes requests.
        problem: why newer versions, or the whole model, were refused; empty when nothing was.
    """

    name: str
    version: int
    ready: bool
    problem: str

    @classmethod
    def from_message(cls, state: model_service_pb2.ModelState) -> Self:
        """Read one entry of the catalogue."""
        return cls(state.name, state.version, state.ready, state.problem)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the server accepts in one request; larger calls are split.

    Attributes:
        max_rows: rows.
        max_draws: rows times draws of an encode or a score.
        max_message_bytes: bytes of one message, in both directions.
    """

    max_rows: int
    max_draws: int
    max_message_bytes: int


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How uint8 levels become model values: x = level * scale + offset.

    Attributes:
        scale: model units per level.
        offset: model value of level 0.
    """

    scale: float
    offset: float


@dataclass(frozen=True, slots=True)
class Attribute:
    """A named direction in latent space, for `Model.edit`.

    Attributes:
        name: as `edit` knows it.
        method: how it was fitted: "mean-difference", "balanced" or "logistic".
        auc: area under the ROC curve of held-out rows ordered by their projection on the direction;
            0.5 is chance.
        positives: rows with the attribute, of those it was fitted to.
        negatives: rows without it.
        note: what it was balanced against, and what else to know.
    """

    name: str
    method: str
    auc: float
    positives: int
    negatives: int
    note: str


@dataclass(frozen=True, slots=True)
class FittedPrior:
    """The mixture of Gaussians that `Model.sample` draws from with prior="fitted".

    Attributes:
        components: of the mixture.
        rows: it was fitted to.
        held_out_nats: mean -log density of held-out posterior draws under it, nats per row.
        standard_nats: the same under N(0, I).
    """

    components: int
    rows: int
    held_out_nats: float
    standard_nats: float


@dataclass(frozen=True, slots=True)
class LatentStatistics:
    """The aggregated posterior of the validation rows, in row-major order of latent_shape.

    Attributes:
        mu_mean: mean over rows of mu, by dimension.
        mu_variance: variance over rows of mu; a dimension is active above 0.01.
        sigma2_mean: mean over rows of sigma^2. mu_variance + sigma2_mean is 1 where the aggregated
            posterior is as wide as the prior.
    """

    mu_mean: tuple[float, ...]
    mu_variance: tuple[float, ...]
    sigma2_mean: tuple[float, ...]


@dataclass(frozen=True, slots=True, repr=False)
class ModelInfo:
    """What a served model version is.

    Attributes:
        name: name of the model.
        version: version that is served.
        input_shape: shape of one input row without the batch axis.
        latent_shape: shape of one latent row without the batch axis.
        latent_space_id: identity of the latent space.
        likelihood: p(x|z): "bernoulli", "continuous-bernoulli", "gaussian", or "unspecified".
        gaussian_variance: variance of the Gaussian likelihood, squared model units; 0 with another
            one.
        preprocessing: meaning of uint8 levels; None where rows are no pictures, and uint8 is
            refused.
        precision: arithmetic of the graphs: "float32", "float16" or "int8"; "unspecified" if it is
            none that this client knows. Arrays are float32 all the same.
        attributes: directions for `edit`, ordered by name.
        prior: the fitted one; None where none was fitted.
        columns: of the table that it was trained on, in the order of a row; empty unless it was
            one.
        latent_statistics: the aggregated posterior; None from a server that does not tell.
        device_numerics: measured on GPUs, an entry for each device and setting of TF32; empty where
            that was never done.
        limits: what the server accepts in one request.
        manifest: the whole manifest as the server sent it: digests, training figures, numerics
            measured on the CPU, what the precision costs.
    """

    name: str
    version: int
    input_shape: tuple[int, ...]
    latent_shape: tuple[int, ...]
    latent_space_id: str
    likelihood: str
    gaussian_variance: float
    preprocessing: Preprocessing | None
    precision: str
    attributes: tuple[Attribute, ...]
    prior: FittedPrior | None
    columns: tuple[Column, ...]
    latent_statistics: LatentStatistics | None
    device_numerics: tuple[DeviceNumerics, ...]
    limits: Limits
    manifest: model_pb2.ModelInfo

    @classmethod
    def from_message(cls, model: model_pb2.ModelInfo) -> Self:
        """Read the manifest."""
        levels = model.preprocessing if model.HasField("preprocessing") else None
        return cls(
            name=model.name,
            version=model.version,
            input_shape=tuple(model.input_shape),
            latent_shape=tuple(model.latent_shape),
            latent_space_id=model.latent_space_id,
            likelihood=_LIKELIHOODS.get(model.likelihood, "unspecified"),
            gaussian_variance=model.gaussian_variance,
            preprocessing=Preprocessing(levels.scale, levels.offset) if levels else None,
            precision=_PRECISIONS.get(model.precision, "unspecified"),
            attributes=tuple(
                Attribute(
                    name=attribute.name,
                    method=attribute.method,
                    auc=attribute.auc,
                    positives=attribute.positives,
                    negatives=attribute.negatives,
                    note=attribute.note,
                )
                for attribute in model.attributes
            ),
            prior=_prior(model.prior) if model.HasField("prior") else None,
            columns=tuple(map(Column.from_message, model.columns)),
            latent_statistics=_statistics(model.latent_statistics)
            if model.HasField("latent_statistics")
            else None,
            device_numerics=tuple(map(DeviceNumerics.from_message, model.device_numerics)),
            limits=Limits(
                max_rows=model.limits.max_rows,
                max_draws=model.limits.max_draws,
                max_message_bytes=model.limits.max_message_bytes,
            ),
            manifest=model,
        )

    def __repr__(self) -> str:
        facts = [
            f"input {list(self.input_shape)}",
            f"latent {list(self.latent_shape)}",
            self.likelihood,
            self.precision,
        ]
        if self.attributes:
            facts.append(f"attributes {', '.join(each.name for each in self.attributes)}")
        if self.prior is not None:
            facts.append(f"fitted prior of {self.prior.components}")
        return f"<ModelInfo {self.name!r} version {self.version}: {'; '.join(facts)}>"

    def to_model(self, table: Any) -> npt.NDArray[np.float32]:
        """The rows of a table as the model takes them: standardised by its columns.

        Args:
            table: [rows, columns] in the columns' own units and in their order, or anything with
                columns by name: a dict of arrays, a pandas DataFrame.

        Returns:
            [rows, columns], for `encode`, `reconstruct`, `score` and `edit`.

        Raises:
            InvalidInput: a column is missing, something is no number, or the model has no columns.
        """
        return _columns.to_model(self.columns, table)

    def from_model(self, rows: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """What `decode`, `sample` and the others return, in the columns' own units.

        Args:
            rows: model values, [..., columns].

        Raises:
            InvalidInput: another number of columns, or the model has none.
        """
        return _columns.from_model(self.columns, rows)


def _prior(prior: model_pb2.FittedPrior) -> FittedPrior:
    return FittedPrior(
        components=prior.components,
        rows=prior.rows,
        held_out_nats=prior.held_out_nats,
        standard_nats=prior.standard_nats,
    )


def _statistics(statistics: model_pb2.LatentStatistics) -> LatentStatistics:
    return LatentStatistics(
        mu_mean=tuple(statistics.mu_mean),
        mu_variance=tuple(statistics.mu_variance),
        sigma2_mean=tuple(statistics.sigma2_mean),
    )
