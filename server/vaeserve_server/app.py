"""Puts the server together, starts it, and takes it down without losing a request."""

import logging
import threading
import time

from grpc_reflection.v1alpha import reflection

from vaeserve_server import transport
from vaeserve_server.catalogue import ModelHandlers
from vaeserve_server.config import ServerConfig, split_address
from vaeserve_server.errors import StartupError, Unavailable
from vaeserve_server.health import Health
from vaeserve_server.methods import MODEL_SERVICE, VAE_SERVICE, method_table
from vaeserve_server.metrics import Metrics
from vaeserve_server.models import Catalogue, load_catalogue
from vaeserve_server.onnx_engine import choose_device
from vaeserve_server.vae import VaeHandlers

_log = logging.getLogger(__name__)


class App:
    """One server process.

    Attributes:
        port: gRPC port it got, after `start`.
        metrics_port: Prometheus port it got, after `start`.
    """

    def __init__(self, config: ServerConfig) -> None:
        """Make every part; nothing listens yet."""
        self._config = config
        self._catalogue: Catalogue | None = None
        self._metrics = Metrics()
        vae = VaeHandlers(self._served, self._metrics)
        methods = method_table(vae, ModelHandlers(self._served))
        self._server = transport.make_server(methods, self._metrics)
        self._health = Health(self._server)
        services = (VAE_SERVICE, MODEL_SERVICE, "grpc.health.v1.Health", reflection.SERVICE_NAME)
        reflection.enable_server_reflection(services, self._server)
        self.port = 0
        self.metrics_port = 0

    def start(self) -> None:
        """Listen, load every model, then become ready. Until then calls are answered UNAVAILABLE.

        Raises:
            StartupError: an address is taken, the device cannot be had, or nothing can be served.
        """
        device = choose_device(self._config.device)
        self.port = transport.bind(self._server, self._config.address)
        try:
            self._endpoint, self.metrics_port = self._metrics.listen(self._config.metrics_address)
        except OSError as error:
            raise StartupError(
                f"cannot listen on {self._config.metrics_address}: {error.strerror}"
            ) from error
        self._server.start()
        try:
            self._catalogue = load_catalogue(
                self._config, device, self._metrics, self._health.not_ready
            )
        except StartupError:
            self.stop(grace_s=0)
            raise
        self._health.loaded(self._catalogue)
        _log.info(
            "ready" if self._catalogue.complete else "not ready: some models were refused",
            extra={
                "address": _with_port(self._config.address, self.port),
                "metrics_address": _with_port(self._config.metrics_address, self.metrics_port),
                "models": sorted(self._catalogue.models),
                "refused": self._catalogue.problems,
            },
        )

    def drain(self, hurry: threading.Event) -> None:
        """Say not ready, go on serving while load balancers notice, then refuse, finish and stop.

        Args:
            hurry: cuts the first wait short.
        """
        _log.info("draining", extra={"drain_delay_s": self._config.drain_delay_s})
        self._health.not_ready()
        hurry.wait(self._config.drain_delay_s)
        self.stop(grace_s=self._config.grace_s)
        _log.info("stopped")

    def stop(self, grace_s: float) -> None:
        """Refuse new calls, give those in flight `grace_s` seconds, end every thread."""
        end = time.monotonic() + grace_s
        self._server.stop(grace_s).wait()
        if self._catalogue is not None:
            self._catalogue.close(max(0.0, end - time.monotonic()))
        self._endpoint.shutdown()
        self._endpoint.server_close()

    def _served(self) -> Catalogue:
        if self._catalogue is None:
            raise Unavailable("the server is loading its models", reason="LOADING")
        return self._catalogue


def _with_port(address: str, port: int) -> str:
    host, _ = split_address(address)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
