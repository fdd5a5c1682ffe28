"""What the server says about its models, as small immutable records. Pure."""

from dataclasses import dataclass
from typing import Self

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
        max_draws: rows times draws of an encode.
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
        limits: what the server accepts in one request.
        manifest: the whole manifest as the server sent it: digests, training figures, measured
            numerics, what the precision costs.
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
            limits=Limits(
                max_rows=model.limits.max_rows,
                max_draws=model.limits.max_draws,
                max_message_bytes=model.limits.max_message_bytes,
            ),
            manifest=model,
        )
