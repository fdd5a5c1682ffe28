"""Adds up the metrics of several processes."""

from collections.abc import Iterable

from prometheus_client.core import Metric

_KEPT_TYPES = ("counter", "histogram")

# Gauges that every process tells alike: that something is so, or of a device that all share.
_SHARED = ("_info", "_memory_bytes", "_limit_bytes")


def merge(processes: Iterable[Iterable[Metric]]) -> list[Metric]:
    """What one process would show that had seen everything.

    Counters and histograms add up, and so do gauges, which here are amounts (rows waiting,
    requests in flight). Of a gauge named `*_info`, which says that something is so, and of
    `*_memory_bytes` and `*_limit_bytes`, which tell of a device that all share, the largest wins.
    Histograms must have the same bounds in every process.

    Args:
        processes: the metrics of each; they are not changed.

    Returns:
        new metrics, in the order in which series first appear.
    """
    merged: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, frozenset[tuple[str, str]]], float]] = {}
    for metrics in processes:
        for metric in metrics:
            if metric.name not in merged:
                merged[metric.name] = Metric(metric.name, metric.documentation, metric.type)
            shared = metric.type == "gauge" and metric.name.endswith(_SHARED)
            series = values.setdefault(metric.name, {})
            for sample in metric.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                if key not in series:
                    series[key] = sample.value
                elif shared:
                    series[key] = max(series[key], sample.value)
                else:
                    series[key] += sample.value
    for name, series in values.items():
        for (sample_name, labels), value in series.items():
            merged[name].add_sample(sample_name, dict(labels), value)
    return list(merged.values())


def lasting(metrics: Iterable[Metric]) -> list[Metric]:
    """What is left of a process that has ended: its counts; it holds and serves nothing now."""
    return [metric for metric in metrics if metric.type in _KEPT_TYPES]
