"""Adds up the metrics of several processes."""

from collections.abc import Iterable

from prometheus_client.core import Metric

_KEPT_TYPES = ("counter", "histogram")


def merge(processes: Iterable[Iterable[Metric]]) -> list[Metric]:
    """What one process would show that had seen everything.

    Counters and histograms add up, and so do gauges, which here are amounts (rows waiting,
    requests in flight). A gauge named `*_info` says that something is so: the largest wins.
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
            says_so = metric.type == "gauge" and metric.name.endswith("_info")
            series = values.setdefault(metric.name, {})
            for sample in metric.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                if key not in series:
                    series[key] = sample.value
                elif says_so:
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
