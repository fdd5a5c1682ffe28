"""Every Prometheus series of a process that serves.

Durations are in seconds; labels are bounded: method, code, model, graph, reason; never a shape,
seed or client.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import grpc
import numpy as np
import numpy.typing as npt
from prometheus_client import (
    CollectorRegistry,
    Counter as PrometheusCounter,
    Gauge,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from vaeserve.v1 import model_pb2
from vaeserve_server.batcher import Batcher
from vaeserve_server.call import Outputs
from vaeserve_server.histograms import HistogramFamily
from vaeserve_server.latent_health import KlHealth, LatentHealth
from vaeserve_server.statistics import GraphStatistics

# 50 us to 10 s, 3 steps a decade: a small graph's run and a drained queue both fall inside.
_SECONDS = (
    50e-6,
    100e-6,
    250e-6,
    500e-6,
    1e-3,
    2.5e-3,
    5e-3,
    10e-3,
    25e-3,
    50e-3,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
)
_ROWS = tuple(float(1 << power) for power in range(11))
_CALIBRATION_PERCENT = (1, 5, 25, 50, 75, 95, 99)

# Batches kept before they are counted.
_KEPT_BATCHES = 512

_GRPC_LABELS = ("grpc_type", "grpc_service", "grpc_method")
_GRAPH_LABELS = ("model", "graph")
_CLOSE_REASONS = ("idle", "full", "timeout")
_REJECT_REASONS = (
    "QUEUE_FULL",
    "QUEUE_WAIT",
    "EXPIRED",
    "CANCELLED",
    "OUT_OF_MEMORY",
    "DRAINING",
)


class RpcMetrics:
    """What every gRPC dashboard expects of one method."""

    def __init__(self, metrics: "Metrics", path: str, kind: str) -> None:
        """Pre-register the method at 0 for every status code.

        Args:
            metrics: where the series live.
            path: "/package.Service/Method".
            kind: grpc_type, such as `unary`.
        """
        _, service, method = path.split("/")
        labels = (kind, service, method)
        self._started = metrics.rpc_started.labels(*labels)
        self._received = metrics.rpc_received.labels(*labels)
        self._sent = metrics.rpc_sent.labels(*labels)
        self._seconds = metrics.rpc_seconds.add(*labels, bounds=_SECONDS)
        self._handled = {
            code: metrics.rpc_handled.labels(*labels, code.name) for code in grpc.StatusCode
        }
        self._unary = kind == "unary"
        self._settled = 0
        self._failed = 0
        self._lock = threading.Lock()

    def started(self, calls: int = 1) -> None:
        """Calls came in."""
        self._started.inc(calls)

    def received(self, messages: int = 1) -> None:
        """Messages came in."""
        self._received.inc(messages)

    def sent(self, messages: int = 1) -> None:
        """Messages of a stream were sent."""
        self._sent.inc(messages)

    def succeeded(self, seconds: float) -> None:
        """A call was answered with OK; counted at the next scrape."""
        self._seconds.observe(seconds)

    def failed(self, code: grpc.StatusCode, seconds: float) -> None:
        """A call was answered with an error."""
        with self._lock:
            self._failed += 1
            self._handled[code].inc()
            self._seconds.observe(seconds)

    def settle(self) -> None:
        """Count what succeeded: every answered call is in the histogram, the others failed."""
        with self._lock:
            succeeded = self._seconds.count - self._failed
            self._handled[grpc.StatusCode.OK].inc(succeeded - self._settled)
            if self._unary:
                self._sent.inc(succeeded - self._settled)
            self._settled = succeeded


class _Batch(NamedTuple):
    rows: int
    padding: int
    seconds: float
    waits: list[float]
    close_reason: str
    inline: bool
    ended: float


class GraphMetrics:
    """Observer of one batcher."""

    def __init__(self, metrics: "Metrics", model: str, graph: str) -> None:
        """Pre-register the graph's series at 0."""
        labels = (model, graph)
        self._metrics = metrics
        self._labels = labels
        self._queue_seconds = metrics.queue_seconds.add(*labels, bounds=_SECONDS)
        self._run_seconds = metrics.run_seconds.add(*labels, bounds=_SECONDS)
        self._batch_rows = metrics.batch_rows.add(*labels, bounds=_ROWS)
        self._padding = metrics.padding_rows.add(*labels, bounds=(0.0, *_ROWS))
        self._rows = metrics.rows.labels(*labels)
        self._closes = {why: metrics.closes.labels(*labels, why) for why in _CLOSE_REASONS}
        self._placements = {
            inline: metrics.placements.labels(*labels, where)
            for inline, where in ((True, "inline"), (False, "thread"))
        }
        self._statistics = metrics.statistics[labels] = GraphStatistics(self.settle)
        self._kept: list[_Batch] = []
        self._lock = threading.Lock()
        self._rejections = {why: metrics.rejected.labels(*labels, why) for why in _REJECT_REASONS}

    def watch(self, batcher: Batcher) -> None:
        """Read the gauges from the batcher at each scrape, so that they cannot drift."""
        self._metrics.queue_rows.labels(*self._labels).set_function(lambda: batcher.queued_rows)
        self._metrics.in_flight.labels(*self._labels).set_function(lambda: batcher.in_flight)

    def ran(
        self,
        *,
        rows: int,
        padding: int,
        seconds: float,
        waits: list[float],
        close_reason: str,
        inline: bool,
    ) -> None:
        """See batcher.Observer; counted later, since counting one batch costs as much as many."""
        ended = time.time()
        self._kept.append(_Batch(rows, padding, seconds, waits, close_reason, inline, ended))
        if len(self._kept) >= _KEPT_BATCHES:
            self.settle()

    def settle(self) -> None:
        """Count what was kept."""
        with self._lock:
            # Others go on appending behind these.
            taken = self._kept[:]
            del self._kept[: len(taken)]
            self._run_seconds.observe_many(batch.seconds for batch in taken)
            self._batch_rows.observe_many(batch.rows for batch in taken)
            self._padding.observe_many(batch.padding for batch in taken)
            self._queue_seconds.observe_many(wait for batch in taken for wait in batch.waits)
            self._rows.inc(sum(batch.rows for batch in taken))
            for reason, count in Counter(batch.close_reason for batch in taken).items():
                self._closes[reason].inc(count)
            for inline, count in Counter(batch.inline for batch in taken).items():
                self._placements[inline].inc(count)
            for batch in taken:
                self._statistics.ran(batch.rows, batch.seconds, batch.waits, batch.ended)

    def computed(self, outputs: Outputs) -> None:
        """See batcher.Observer; the encoder's are looked at for their KL."""
        if len(outputs) == 2:
            self._metrics.kl.encoded(self._labels[0], *outputs)

    def rejected(self, reason: str) -> None:
        """See batcher.Observer."""
        self._rejections[reason].inc()


class _Settle(Collector):
    """First in the registry, so that counters that lag behind are right when they are read."""

    def __init__(self) -> None:
        self.lagging: list[RpcMetrics | GraphMetrics] = []

    def collect(self) -> Iterable[Metric]:
        for each in self.lagging:
            each.settle()
        return ()


class Metrics:
    """All series, in a registry of their own."""

    def __init__(self) -> None:
        """Make every series."""
        # A third more lines, and nobody graphs them.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        self.statistics: dict[tuple[str, str], GraphStatistics] = {}
        self._settle = _Settle()
        registry.register(self._settle)

        def counter(name: str, text: str, labels: Sequence[str]) -> PrometheusCounter:
            return PrometheusCounter(name, text, labels, registry=registry)

        def histogram(name: str, text: str, labels: Sequence[str]) -> HistogramFamily:
            family = HistogramFamily(name, text, labels)
            registry.register(family)
            return family

        def gauge(name: str, text: str, labels: Sequence[str]) -> Gauge:
            return Gauge(name, text, labels, registry=registry)

        self.rpc_started = counter("grpc_server_started", "RPCs started.", _GRPC_LABELS)
        self.rpc_handled = counter(
            "grpc_server_handled", "RPCs completed, by status.", (*_GRPC_LABELS, "grpc_code")
        )
        self.rpc_received = counter("grpc_server_msg_received", "Messages received.", _GRPC_LABELS)
        self.rpc_sent = counter("grpc_server_msg_sent", "Messages sent.", _GRPC_LABELS)
        self.rpc_seconds = histogram(
            "grpc_server_handling_seconds",
            "Seconds from receiving an RPC to its status.",
            _GRPC_LABELS,
        )

        self.queue_seconds = histogram(
            "vaeserve_queue_seconds",
            "Seconds a request waited for its batch to start.",
            _GRAPH_LABELS,
        )
        self.run_seconds = histogram("vaeserve_run_seconds", "Seconds a batch ran.", _GRAPH_LABELS)
        self.batch_rows = histogram("vaeserve_batch_rows", "Rows in a batch.", _GRAPH_LABELS)
        self.padding_rows = histogram(
            "vaeserve_batch_padding_rows",
            "Rows added to fill a bucket.",
            _GRAPH_LABELS,
        )
        self.closes = counter(
            "vaeserve_batch_close", "Batches by why they were closed.", (*_GRAPH_LABELS, "reason")
        )
        self.placements = counter(
            "vaeserve_batches",
            "Batches by where they ran: on the transport's thread or handed over.",
            (*_GRAPH_LABELS, "where"),
        )
        self.rows = counter("vaeserve_rows", "Rows run.", _GRAPH_LABELS)
        self.rejected = counter(
            "vaeserve_rejected",
            "Requests refused or dropped by the queue.",
            (*_GRAPH_LABELS, "reason"),
        )
        self.queue_rows = gauge("vaeserve_queue_rows", "Rows waiting.", _GRAPH_LABELS)
        self.in_flight = gauge(
            "vaeserve_in_flight", "Requests admitted and not answered.", _GRAPH_LABELS
        )
        self.model_info = gauge(
            "vaeserve_model_info",
            "1 for each served model.",
            ("model", "version", "latent_space_id"),
        )
        self.provider_info = gauge(
            "vaeserve_provider_info", "1 for the provider a model runs on.", ("model", "provider")
        )
        self.kl = KlHealth("vaeserve_kl_nats", "KL(q(z|x) || N(0, I)) of encoded rows.")
        self.reconstruction = LatentHealth(
            "vaeserve_reconstruction_nats", "-log p(x|z) of reconstructed rows."
        )
        registry.register(self.kl)
        registry.register(self.reconstruction)

    def rpc(self, path: str, kind: str) -> RpcMetrics:
        """Series of one RPC method, registered at 0; `kind` is its grpc_type."""
        made = RpcMetrics(self, path, kind)
        self._settle.lagging.append(made)
        return made

    def graph(self, model: str, graph: str) -> GraphMetrics:
        """Series of one graph, registered at 0."""
        made = GraphMetrics(self, model, graph)
        self._settle.lagging.append(made)
        return made

    def model_loaded(
        self,
        info: model_pb2.ModelInfo,
        provider: str,
        calibration: Mapping[str, npt.NDArray[np.float64]],
    ) -> None:
        """Note a served model and calibrate its latent health.

        Args:
            info: its manifest.
            provider: what its graphs run on.
            calibration: arrays of calibration.npz: `percent`, and nats by series at those
                percentiles.
        """
        self.model_info.labels(info.name, str(info.version), info.latent_space_id).set(1)
        self.provider_info.labels(info.name, provider).set(1)
        for collector, key in ((self.kl, "kl_nats"), (self.reconstruction, "reconstruction_nats")):
            bounds = np.interp(_CALIBRATION_PERCENT, calibration["percent"], calibration[key])
            collector.calibrate(info.name, bounds)

    def exposition(self) -> bytes:
        """Every series as Prometheus text."""
        return generate_latest(self.registry)

    def activity(self) -> float:
        """A number that changes with every call begun or answered.

        It costs a tenth of reading everything.
        """
        self._settle.collect()
        families = (*self.rpc_started.collect(), *self.rpc_handled.collect())
        return sum(sample.value for family in families for sample in family.samples)
