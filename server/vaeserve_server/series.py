"""Every Prometheus series of a process that serves, by name, help and labels.

Durations are in seconds; labels are bounded: method, code, model, graph, reason; never a shape,
seed or client.
"""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics
from prometheus_client.registry import Collector

from vaeserve_server.histograms import HistogramFamily
from vaeserve_server.latent_health import KlHealth, LatentHealth

_GRPC_LABELS = ("grpc_type", "grpc_service", "grpc_method")
_GRAPH_LABELS = ("model", "graph")


class Series:
    """All series, in a registry of their own."""

    def __init__(self, first: Collector) -> None:
        """Make every series.

        Args:
            first: collected before all others.
        """
        # A third more lines, and nobody graphs them.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        registry.register(first)

        def counter(name: str, text: str, labels: Sequence[str]) -> Counter:
            return Counter(name, text, labels, registry=registry)

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
            "vaeserve_reconstruction_nats", "-log p(x|z) of rows at z = mu."
        )
        registry.register(self.kl)
        registry.register(self.reconstruction)
