"""Served VAEs as models of the Open Inference Protocol.

A VAE `m` appears as three: `m_encoder` (x -> mu, log_var), `m_decoder` (z -> x_hat) and `m`, the
reconstruction (x -> x_hat).
"""

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from vaeserve_server.errors import NotFound
from vaeserve_server.models import Catalogue, Model

_SHOWN = 64  # characters of a name that a caller sent


class Part(Enum):
    """Which part of a VAE a model of the protocol is; the value is appended to the VAE's name."""

    ENCODER = "_encoder"
    DECODER = "_decoder"
    WHOLE = ""


PARTS = tuple(Part)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output.

    Attributes:
        name: its name.
        shape: of one row, without the batch axis.
        picture: whether it may travel as UINT8 levels.
    """

    name: str
    shape: tuple[int, ...]
    picture: bool = False

    @property
    def size(self) -> int:
        """Elements of a row."""
        return math.prod(self.shape)


class InferCount:
    """Requests of one model by how they ended; any thread may count."""

    def __init__(self) -> None:
        """Start at 0."""
        self._lock = threading.Lock()
        self.answered = self.answered_ns = self.rows = self.last_ms = 0
        self.failed = self.failed_ns = 0

    def answer(self, rows: int, ns: int, now_ms: int) -> None:
        """Count a request that got its answer: its rows, the time it took, and the time of day."""
        with self._lock:
            self.answered += 1
            self.answered_ns += ns
            self.rows += rows
            self.last_ms = now_ms

    def failure(self, ns: int) -> None:
        """Count a request that got an error, and the time it took."""
        with self._lock:
            self.failed += 1
            self.failed_ns += ns


@dataclass(frozen=True, eq=False)
class OipModel:
    """A model of the protocol.

    Attributes:
        name: as callers name it.
        part: which part of the VAE.
        vae: whose part it is.
        version: its version, as the protocol writes it.
        max_rows: most rows of a request.
        input: its one input.
        outputs: its outputs, in the graph's order.
        count: how its requests ended.
        heads: parts of serialised replies, by what they depend on; the reply's builder keeps them
            here, one entry for each choice of outputs and number of rows.
    """

    name: str
    part: Part
    vae: Model
    version: str
    max_rows: int
    input: TensorSpec
    outputs: tuple[TensorSpec, ...]
    count: InferCount = field(default_factory=InferCount)
    heads: dict[tuple[object, ...], tuple[bytes, ...]] = field(default_factory=dict)


class OipModels:
    """The models of the protocol, of whatever catalogue is served."""

    def __init__(self) -> None:
        """Know none yet."""
        self._known: tuple[Catalogue | None, dict[str, OipModel]] = (None, {})

    def all(self, catalogue: Catalogue) -> Mapping[str, OipModel]:
        """Every model by name. A catalogue is not changed once it serves, so it is read once."""
        known, models = self._known
        if known is not catalogue:
            models = _models_of(catalogue)
            self._known = (catalogue, models)
        return models

    def get(self, catalogue: Catalogue, name: str, version: str, *, prefix: str = "") -> OipModel:
        """The model of that name.

        Args:
            catalogue: what is served.
            name: as the caller gave it.
            version: as the caller gave it; empty for the one being served.
            prefix: of the request's fields that hold the two.

        Raises:
            NotFound: no such model, or another version than the served one.
        """
        models = self.all(catalogue)
        model = models.get(name)
        if model is None:
            raise NotFound(
                f"model {name[:_SHOWN]!r} is not served; served: {', '.join(sorted(models))}",
                reason="MODEL_NOT_FOUND",
                field=f"{prefix}name",
            )
        if version and version != model.version:
            raise NotFound(
                f"model {name!r} is served in version {model.version}, not {version[:_SHOWN]!r}",
                reason="VERSION_NOT_FOUND",
                field=f"{prefix}version",
            )
        return model


def _models_of(catalogue: Catalogue) -> dict[str, OipModel]:
    models = {}
    # The wholes last: a VAE that is itself called `m_encoder` keeps its name.
    for part in PARTS:
        for name, model in catalogue.models.items():
            models[name + part.value] = _oip_model(name + part.value, part, model)
    return models


def _oip_model(name: str, part: Part, model: Model) -> OipModel:
    info = model.info
    row, latent = tuple(info.input_shape), tuple(info.latent_shape)
    picture = info.HasField("preprocessing")
    x = TensorSpec(info.encoder.input_name, row, picture)
    z = TensorSpec(info.decoder.input_name, latent)
    posterior = tuple(TensorSpec(output, latent) for output in info.encoder.output_names)
    x_hat = (TensorSpec(info.decoder.output_names[0], row, picture),)
    return OipModel(
        name=name,
        part=part,
        vae=model,
        version=str(info.version),
        max_rows=info.limits.max_rows,
        input=z if part is Part.DECODER else x,
        outputs=posterior if part is Part.ENCODER else x_hat,
    )
