"""Memory of CUDA devices as Prometheus series, read at each scrape."""

import logging
from collections.abc import Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vaeserve_server import nvidia
from vaeserve_server.cuda_driver import CudaDriverError, read_driver
from vaeserve_server.devices import Device

_log = logging.getLogger(__name__)


class DeviceMemory(Collector):
    """What all processes have of the devices that serve, and what one arena may have.

    A device that cannot be asked at a scrape is left out of it.
    """

    def __init__(self, devices: Iterable[Device], arena_limit_bytes: int) -> None:
        """Find the devices.

        Args:
            devices: those that serve, on CUDA.
            arena_limit_bytes: of each session's arena; 0 for none.
        """
        self._limit = arena_limit_bytes
        self._identities = {}
        try:
            gpus = read_driver().gpus
            for device in devices:
                identity = gpus[device.index].identity
                nvidia.memory(identity)
                self._identities[str(device)] = identity
        except (CudaDriverError, nvidia.ManagementError) as error:
            _log.warning("no metrics of device memory", extra={"problem": str(error)})

    def collect(self) -> Iterator[Metric]:
        """Called by the registry at each scrape, on any thread."""
        memory = GaugeMetricFamily(
            "vaeserve_device_memory_bytes",
            "Memory of a device, of all processes together.",
            labels=("device", "state"),
        )
        for device, identity in self._identities.items():
            try:
                now = nvidia.memory(identity)
            except nvidia.ManagementError:
                continue
            memory.add_metric((device, "used"), now.used)
            memory.add_metric((device, "total"), now.total)
        yield memory
        yield GaugeMetricFamily(
            "vaeserve_arena_limit_bytes",
            "Most that the arena of each session may take of its device; 0 for no limit.",
            self._limit,
        )
