"""Readiness, as grpc.health.v1 tells it: Check and Watch.

"" says that the process lives. `vaeserve.v1.VaeService` is SERVING once every model folder of the
repository is served, `models/NAME` once that model is. All go NOT_SERVING when draining, or when a
batcher thread has died.
"""

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from vaeserve_server.methods import MODEL_SERVICE, VAE_SERVICE
from vaeserve_server.models import Catalogue

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Health:
    """The health service and what it says."""

    def __init__(self, server: grpc.Server) -> None:
        """Add the service; live, not ready."""
        self._servicer = health.HealthServicer()
        self._names = [VAE_SERVICE, MODEL_SERVICE]
        self._servicer.set("", _SERVING)
        self._set_all(_NOT_SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    def loaded(self, catalogue: Catalogue) -> None:
        """Say what is ready."""
        self._servicer.set(MODEL_SERVICE, _SERVING)
        self._servicer.set(VAE_SERVICE, _SERVING if catalogue.complete else _NOT_SERVING)
        for name in catalogue.models.keys() | catalogue.problems.keys():
            served = name in catalogue.models
            self._names.append(f"models/{name}")
            self._servicer.set(f"models/{name}", _SERVING if served else _NOT_SERVING)

    def not_ready(self) -> None:
        """Nothing is ready from now on."""
        self._set_all(_NOT_SERVING)

    def _set_all(self, status: int) -> None:
        for name in self._names:
            self._servicer.set(name, status)
