"""A served model, and the catalogue of all of them."""

import math
import time
from dataclasses import dataclass, field
from functools import cached_property

from vaeserve.v1 import model_pb2
from vaeserve_server.batcher import Batcher
from vaeserve_server.call import Floats
from vaeserve_server.errors import NotFound
from vaeserve_server.levels import picture_levels
from vaeserve_server.replies import Forms
from vaeserve_server.toolkit import Toolkit

_SHOWN = 64  # characters of a name that a caller sent


@dataclass(frozen=True)
class Model:
    """One version of a model, ready to serve.

    Attributes:
        info: manifest with the server's limits.
        encoder: batcher of x -> mu, log_var.
        decoder: batcher of z -> x_hat.
        chain: batcher of both with the latents between them (`chaining`) -> z, x_hat; None where
            nothing is gained by that.
        toolkit: what is known of its latent space.
    """

    info: model_pb2.ModelInfo
    encoder: Batcher
    decoder: Batcher
    chain: Batcher | None
    toolkit: Toolkit

    # What every request asks for, read out of the message once.

    @cached_property
    def max_rows(self) -> int:
        """Most rows of a request."""
        return self.info.limits.max_rows

    @cached_property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input row."""
        return tuple(self.info.input_shape)

    @cached_property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one latent row."""
        return tuple(self.info.latent_shape)

    @cached_property
    def latent_size(self) -> int:
        """Elements of one latent row."""
        return math.prod(self.latent_shape)

    @cached_property
    def levels(self) -> Floats | None:
        """Model value of each uint8 level, float32 [256]; None where rows are no pictures."""
        return levels_of(self.info)

    @cached_property
    def unit_interval(self) -> bool:
        """Whether inputs must lie in [0, 1]."""
        return takes_unit_interval(self.info)

    @cached_property
    def forms(self) -> Forms:
        """Its commonest replies."""
        return Forms(self.info)

    @property
    def batchers(self) -> list[Batcher]:
        """All of its graphs', in the order in which a call goes through them."""
        return [self.encoder, self.decoder, *([] if self.chain is None else [self.chain])]


def takes_unit_interval(info: model_pb2.ModelInfo) -> bool:
    """Whether inputs must lie in [0, 1], as both Bernoulli likelihoods ask."""
    return info.likelihood != model_pb2.LIKELIHOOD_GAUSSIAN


def levels_of(info: model_pb2.ModelInfo) -> Floats | None:
    """Model value of each uint8 level, float32 [256]; None where rows are no pictures."""
    if not info.HasField("preprocessing"):
        return None
    return picture_levels(info.preprocessing.scale, info.preprocessing.offset)


@dataclass
class Catalogue:
    """What the repository holds: served models by name, and why folders were refused."""

    models: dict[str, Model] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def get(self, name: str, version: int = 0, *, field: str = "model") -> Model:
        """The served model of that name.

        Args:
            name: as the caller gave it.
            version: 0 for the one being served.
            field: where the name stands in the request.

        Raises:
            NotFound: no such model, or another version than the served one.
        """
        model = self.models.get(name)
        if model is None:
            served = ", ".join(sorted(self.models)) or "none"
            raise NotFound(
                f"model {name[:_SHOWN]!r} is not served; served: {served}",
                reason="MODEL_NOT_FOUND",
                field=field,
            )
        if version not in (0, model.info.version):
            raise NotFound(
                f"model {name!r} is served in version {model.info.version}, not {version}",
                reason="VERSION_NOT_FOUND",
                field="version",
            )
        return model

    @property
    def complete(self) -> bool:
        """Whether every model folder of the repository is served, if in an older version."""
        return bool(self.models) and not self.problems.keys() - self.models.keys()

    @property
    def in_flight(self) -> int:
        """Requests admitted to any graph and not yet answered."""
        return sum(batcher.in_flight for batcher in self._batchers)

    def drain(self) -> None:
        """Refuse calls that have not been begun, in every model."""
        for batcher in self._batchers:
            batcher.drain()

    def close(self, timeout_s: float) -> None:
        """Refuse everything and finish what is admitted, in every model."""
        end = time.monotonic() + timeout_s
        for batcher in self._batchers:
            batcher.close(max(0.0, end - time.monotonic()))

    @property
    def _batchers(self) -> list[Batcher]:
        return [batcher for model in self.models.values() for batcher in model.batchers]
