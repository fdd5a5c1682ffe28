"""The metrics of a process that serves: who is counted, and how they are read."""

from collections.abc import Iterable

import numpy as np
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from vaeserve.v1 import model_pb2
from vaeserve.v1.archives import Calibration
from vaeserve.v1.noise import Doubles
from vaeserve_server.device_memory import DeviceMemory
from vaeserve_server.devices import CPU, Device
from vaeserve_server.observers import GraphMetrics, RpcMetrics
from vaeserve_server.series import Series
from vaeserve_server.statistics import GraphStatistics

_CALIBRATION_PERCENT = (1, 5, 25, 50, 75, 95, 99)


class _Settle(Collector):
    """First in the registry, so that counters that lag behind are right when they are read."""

    def __init__(self) -> None:
        self.lagging: list[RpcMetrics | GraphMetrics] = []

    def collect(self) -> Iterable[Metric]:
        for each in self.lagging:
            each.settle()
        return ()


class Metrics:
    """All series, and who feeds them.

    Attributes:
        series: all of them.
        statistics: of each graph, by model and graph.
    """

    def __init__(self) -> None:
        """Make every series."""
        self._settle = _Settle()
        self.series = Series(self._settle)
        self._rpcs: list[RpcMetrics] = []
        self.statistics: dict[tuple[str, str], GraphStatistics] = {}
        self._providers: set[str] = set()

    @property
    def registry(self) -> CollectorRegistry:
        """What an endpoint serves."""
        return self.series.registry

    def reconstructed(self, model: str, nats: Doubles) -> None:
        """Count the reconstruction terms of rows, nats, [rows]."""
        self.series.reconstruction.observe(model, nats)

    def rpc(self, path: str, kind: str) -> RpcMetrics:
        """Series of one RPC method, registered at 0; `kind` is its grpc_type."""
        made = RpcMetrics(self.series, path, kind)
        self._rpcs.append(made)
        self._settle.lagging.append(made)
        return made

    def graph(self, model: str, graph: str) -> GraphMetrics:
        """Series of one graph, registered at 0."""
        made = GraphMetrics(self.series, model, graph)
        self._settle.lagging.append(made)
        self.statistics[model, graph] = made.statistics
        return made

    def model_loaded(
        self,
        info: model_pb2.ModelInfo,
        provider: str,
        calibration: Calibration,
    ) -> None:
        """Note a served model and calibrate its latent health.

        Args:
            info: its manifest.
            provider: what its graphs run on.
            calibration: its validation rows' scores.
        """
        self.series.model_info.labels(info.name, str(info.version), info.latent_space_id).set(1)
        self.series.provider_info.labels(info.name, provider).set(1)
        self._providers.add(provider)
        for collector, nats in (
            (self.series.kl, calibration.kl_nats),
            (self.series.reconstruction, calibration.reconstruction_nats),
        ):
            bounds = np.interp(_CALIBRATION_PERCENT, calibration.percent, nats)
            collector.calibrate(info.name, bounds)

    def loaded_on(self, devices: Iterable[Device], arena_limit_bytes: int) -> None:
        """Note where all models were to run; where none does on CUDA there is nothing to show.

        Args:
            devices: what `--device` meant.
            arena_limit_bytes: of each session's arena on CUDA; 0 for none.
        """
        on_cuda = [device for device in devices if device.on_cuda]
        if on_cuda and self._providers - {CPU}:
            self.series.registry.register(DeviceMemory(on_cuda, arena_limit_bytes))

    def exposition(self) -> bytes:
        """Every series as Prometheus text."""
        return generate_latest(self.series.registry)

    def activity(self) -> int:
        """A number that changes with every call begun or answered; it costs next to nothing."""
        return sum(each.activity() for each in self._rpcs)
