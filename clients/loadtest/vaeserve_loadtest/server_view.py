"""The server's own view of a run: what its /metrics gained meanwhile."""

import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

_TIMEOUT_S = 10

Metrics = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass(frozen=True, slots=True)
class GraphView:
    """One graph of one model.

    Attributes:
        model: name of the model.
        graph: "encoder" or "decoder".
        batches: runs of the graph.
        rows: rows run.
        rows_per_batch: their mean.
        queue_ms: mean wait of a request before its batch began.
        queue_p99_ms: upper bound of the histogram's bucket that holds the 99th percentile.
        run_ms: mean run of a batch.
        rejected: requests that the queue refused or dropped, by reason.
    """

    model: str
    graph: str
    batches: int
    rows: int
    rows_per_batch: float
    queue_ms: float
    queue_p99_ms: float | None
    run_ms: float
    rejected: dict[str, int]


@dataclass(frozen=True, slots=True)
class ServerView:
    """What the server saw.

    Attributes:
        graphs: those that ran.
        cpu_s: processor time of its process, where it is exported.
    """

    graphs: tuple[GraphView, ...]
    cpu_s: float | None

    @classmethod
    def between(cls, before: Metrics, after: Metrics) -> "ServerView":
        """What happened between two readings.

        Raises:
            ValueError: of two processes, one after the other: their counts have no difference.
        """
        gained = {key: value - before.get(key, 0.0) for key, value in after.items()}
        if any(gained[key] < 0 for key in gained if key[0].endswith(("_total", "_count"))):
            raise ValueError("the server began to count anew meanwhile: was it restarted?")
        batches = _by_graph(gained, "vaeserve_run_seconds_count")
        graphs = [_graph(gained, *graph) for graph, count in batches.items() if count > 0]
        cpu = gained.get(("process_cpu_seconds_total", frozenset()))
        return cls(tuple(sorted(graphs, key=lambda graph: (graph.model, graph.graph))), cpu)


def read_metrics(address: str) -> Metrics:
    """Read every sample of a /metrics endpoint.

    Args:
        address: HOST:PORT.

    Raises:
        OSError: no metrics can be read there; names the address.
    """
    if not _is_host_and_port(address):
        raise OSError(f"{address!r} is no HOST:PORT of metrics")
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=_TIMEOUT_S) as reply:
            families = list(text_string_to_metric_families(reply.read().decode()))
    except HTTPError as error:
        error.close()
        status = f"{error.code} {error.reason}"
        raise OSError(f"{address}: no metrics there: {status}") from error
    except URLError as error:
        reason = getattr(error.reason, "strerror", None) or error.reason
        raise OSError(f"{address}: no metrics there: {reason}") from error
    except (OSError, HTTPException, ValueError) as error:
        advice = "is it the port of --metrics-address, not of gRPC?"
        raise OSError(f"{address}: what answers there has no metrics; {advice}") from error
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def _is_host_and_port(address: str) -> bool:
    try:
        parts = urlsplit(f"//{address}")
        return bool(parts.hostname and parts.port) and parts.netloc == address
    except ValueError:  # a port that is no number, or too large
        return False


def _graph(gained: Metrics, model: str, graph: str) -> GraphView:
    def total(name: str) -> float:
        return _by_graph(gained, name).get((model, graph), 0.0)

    def mean_ms(name: str) -> float:
        count = total(f"{name}_count")
        return 1e3 * total(f"{name}_sum") / count if count else 0.0

    batches, rows = total("vaeserve_run_seconds_count"), total("vaeserve_rows_total")
    rejected = {
        dict(labels)["reason"]: round(value)
        for (name, labels), value in gained.items()
        if name == "vaeserve_rejected_total" and {("model", model), ("graph", graph)} <= labels
    }
    return GraphView(
        model=model,
        graph=graph,
        batches=round(batches),
        rows=round(rows),
        rows_per_batch=rows / batches,
        queue_ms=mean_ms("vaeserve_queue_seconds"),
        queue_p99_ms=_bucket_ms(gained, "vaeserve_queue_seconds", model, graph, 0.99),
        run_ms=mean_ms("vaeserve_run_seconds"),
        rejected={reason: count for reason, count in rejected.items() if count},
    )


def _by_graph(gained: Metrics, name: str) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], float] = {}
    for (sample, labels), value in gained.items():
        if sample == name:
            named = dict(labels)
            key = (named["model"], named["graph"])
            found[key] = found.get(key, 0.0) + value
    return found


def _bucket_ms(gained: Metrics, name: str, model: str, graph: str, share: float) -> float | None:
    """The bound of the first bucket that holds a share of all; None beyond the last bound."""
    wanted = {("model", model), ("graph", graph)}
    buckets = sorted(
        (float(dict(labels)["le"]), count)
        for (sample, labels), count in gained.items()
        if sample == f"{name}_bucket" and wanted <= labels
    )
    for bound, count in buckets[:-1]:
        if count >= share * buckets[-1][1]:
            return 1e3 * bound
    return None
