"""Readiness, as grpc.health.v1 tells it: Check and Watch.

"" says that the process lives. `vaeserve.v1.VaeService` and `inference.GRPCInferenceService` are
SERVING once every model folder of the repository is served, `models/NAME` once that model is. These
go NOT_SERVING when draining, or when a batcher or the lane has died of a bug.
"""

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from vaeserve_server.methods import MODEL_SERVICE, VAE_SERVICE
from vaeserve_server.models import Catalogue
from vaeserve_server.oip import OIP_SERVICE

_SERVING: int = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: int = health_pb2.HealthCheckResponse.NOT_SERVING


class Health:
    """The health service and what it says."""

    def __init__(self, server: grpc.Server) -> None:
        """Add the service; live, not ready."""
        self._servicer = health.HealthServicer()
        services = (VAE_SERVICE, OIP_SERVICE, MODEL_SERVICE)
        self._states: dict[str, int] = dict.fromkeys(services, _NOT_SERVING)
        self._servicer.set("", _SERVING)
        self.not_ready()
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    def loaded(self, catalogue: Catalogue) -> None:
        """Say what is ready."""
        all_served = _SERVING if catalogue.complete else _NOT_SERVING
        self._set(MODEL_SERVICE, _SERVING)
        self._set(VAE_SERVICE, all_served)
        self._set(OIP_SERVICE, all_served)
        for name in catalogue.models.keys() | catalogue.problems.keys():
            served = name in catalogue.models
            self._set(_model(name), _SERVING if served else _NOT_SERVING)

    def not_ready(self) -> None:
        """Nothing is ready from now on."""
        for name in list(self._states):
            self._set(name, _NOT_SERVING)

    def is_ready(self, model: str) -> bool:
        """Whether a model is ready; the whole service for ""."""
        return self._states.get(_model(model) if model else VAE_SERVICE) == _SERVING

    def _set(self, name: str, state: int) -> None:
        self._states[name] = state
        self._servicer.set(name, state)


def _model(name: str) -> str:
    return f"models/{name}"
