"""Puts the server together, starts it, and takes it down without losing a request."""

import dataclasses
import logging
import os
import signal
import threading
import time
from http.server import HTTPServer

from vaeserve_server import logs, metrics_endpoint
from vaeserve_server.catalogue import ModelHandlers
from vaeserve_server.config import ServerConfig, with_port
from vaeserve_server.devices import choose_devices
from vaeserve_server.engine import EngineLostError
from vaeserve_server.errors import Unavailable
from vaeserve_server.health import HEALTH_SERVICE, Health
from vaeserve_server.loading import load_catalogue
from vaeserve_server.methods import MODEL_SERVICE, VAE_SERVICE, Method, method_table, oip_methods
from vaeserve_server.metrics import Metrics
from vaeserve_server.models import Catalogue
from vaeserve_server.oip import OIP_SERVICE, InferHandlers
from vaeserve_server.oip_catalogue import OipCatalogueHandlers
from vaeserve_server.oip_models import OipModels
from vaeserve_server.shared_memory import Regions
from vaeserve_server.tls import server_credentials
from vaeserve_server.tokens import Tokens
from vaeserve_server.transport import Transport
from vaeserve_server.turn import Turn
from vaeserve_server.vae import VaeHandlers
from vaeserve_server.worker_messages import Served

_POLL_S = 0.005

_log = logging.getLogger(__name__)


class App:
    """One server process.

    Attributes:
        port: gRPC port it got, after `start`.
        metrics_port: Prometheus port it got, after `start`; 0 for one of several workers.
        metrics: every series.
        device_lost: whether a GPU has failed for good: only a new process can use it again.
    """

    def __init__(self, config: ServerConfig, like: Served | None = None) -> None:
        """Make every part; nothing listens yet.

        Args:
            config: with more than one worker this is one of them: it shares its gRPC port, and its
                metrics are served elsewhere. It listens only when it is ready: until then the
                others have the port's calls.
            like: what the workers that serve already serve. This one takes the same.
        """
        self._config = config
        self._alone = config.workers == 1
        self._like = like
        self._catalogue: Catalogue | None = None
        self._draining = False
        self.device_lost = False
        self._ending = threading.Lock()
        self._ended_itself = False
        self.metrics = Metrics()
        self._health = Health()
        vae = VaeHandlers(self._loaded, self.metrics)
        methods = method_table(vae, ModelHandlers(self._served)) + self._oip_methods()
        self._turn = Turn()
        self._transport = Transport(
            methods,
            self.metrics,
            self._turn,
            self._health,
            choice=config.transport,
            reuse_port=not self._alone,
            on_death=self._died,
            guard=None if config.token_file is None else Tokens(config.token_file).check,
            credentials=server_credentials(config),
        )
        self._transport.add_reflection((VAE_SERVICE, MODEL_SERVICE, OIP_SERVICE, HEALTH_SERVICE))
        self._endpoint: HTTPServer | None = None
        self.port = 0
        self.metrics_port = 0

    def start(self) -> None:
        """Listen, load every model, then become ready. Until then calls are answered UNAVAILABLE.

        A worker does not listen before it is ready.

        Raises:
            StartupError: an address is taken, the device cannot be had, or nothing can be served.
        """
        devices = choose_devices(self._config.device, self._config.tuning)
        try:
            if self._alone:
                self._listen()
            self._catalogue = load_catalogue(
                self._config,
                devices,
                self.metrics,
                on_death=self._batcher_died,
                turn=self._turn,
                like=self._like,
            )
            self.metrics.loaded_on(devices, self._config.tuning.memory_limit_bytes)
            self._health.loaded(self._catalogue)
            if not self._alone:
                self._listen()
        except BaseException:
            self.stop(grace_s=0)
            raise
        if self._alone:
            got = dataclasses.replace(
                self._config,
                address=with_port(self._config.address, self.port),
                metrics_address=with_port(self._config.metrics_address, self.metrics_port),
            )
            logs.ready(got, self._catalogue.models, self._catalogue.problems)

    def served(self) -> Served:
        """What is served, once started."""
        catalogue = self._served()
        versions = {name: model.info.version for name, model in catalogue.models.items()}
        return Served(versions, catalogue.problems)

    @property
    def loaded(self) -> bool:
        """Whether there is anything to drain."""
        return self._catalogue is not None

    def drain(self) -> None:
        """Say not ready, serve on while load balancers notice, then refuse, finish and stop."""
        _log.info(
            "draining; another signal ends at once",
            extra={"drain_delay_s": self._config.drain_delay_s},
        )
        self._health.not_ready()
        if not self.device_lost:  # else there is nothing left that could be served
            time.sleep(self._config.drain_delay_s)
        self.stop(grace_s=self._config.grace_s)
        _log.info("stopped")

    def stop(self, grace_s: float) -> None:
        """Refuse new calls, give those in flight `grace_s` seconds, end every thread."""
        end = time.monotonic() + grace_s
        # Our own refusal first, with a status of the table: a stopping gRPC server cancels.
        self._draining = True
        if self._catalogue is not None:
            self._catalogue.drain()
            self._wait_until_answered(self._catalogue, end)
        self._health.end()
        # It sends callers elsewhere and waits for those that are left, which go on from run to run.
        self._transport.stop(max(0.0, end - time.monotonic()))
        if self._catalogue is not None:
            self._catalogue.close(max(0.0, end - time.monotonic()))
        if self._endpoint is not None:
            self._endpoint.shutdown()
            self._endpoint.server_close()

    @staticmethod
    def _wait_until_answered(catalogue: Catalogue, end: float) -> None:
        """Let what was admitted be answered, until a monotonic time."""
        while catalogue.in_flight and time.monotonic() < end:
            time.sleep(_POLL_S)

    def _batcher_died(self, cause: BaseException) -> None:
        """Nothing is ready any more; without its device the process is of no use at all."""
        if isinstance(cause, EngineLostError):
            self.device_lost = True
        self._died()

    def _died(self) -> None:
        """A thread that everybody needs has died of a bug: nothing is ready any more."""
        self._health.not_ready()
        with self._ending:
            # Drains; a supervisor then replaces this worker. Once: a second signal ends at once.
            if (self.device_lost or not self._alone) and not self._ended_itself:
                self._ended_itself = True
                os.kill(os.getpid(), signal.SIGTERM)

    def _oip_methods(self) -> list[Method]:
        models = OipModels()
        regions = Regions(enabled=self._config.system_shared_memory)
        return oip_methods(
            InferHandlers(self._loaded, models, regions, self.metrics),
            OipCatalogueHandlers(
                self._served,
                models,
                regions,
                self.metrics.statistics,
                self._health.is_ready,
            ),
        )

    def _listen(self) -> None:
        # gRPC's port last: it is held until its server has been started and stopped.
        if self._alone:
            self._endpoint, self.metrics_port = metrics_endpoint.listen(
                self._config.metrics_address, self.metrics.registry
            )
        self.port = self._transport.start(self._config.address)

    def _served(self) -> Catalogue:
        if self._draining:
            raise Unavailable.draining()
        return self._loaded()

    def _loaded(self) -> Catalogue:
        """For calls that need runs: of these, batchers refuse the new ones while draining."""
        if self._catalogue is None:
            raise Unavailable("the server is loading its models", reason="LOADING")
        return self._catalogue
