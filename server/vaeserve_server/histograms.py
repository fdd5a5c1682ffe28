"""Prometheus histograms that are cheap to feed: values are kept as they come and counted later.

prometheus_client's histogram takes a lock for each value; here observing is an append to a list,
and numpy counts thousands at once, at the latest when somebody scrapes.
"""

import threading
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

# Kept values before they are counted: 64 KB of floats.
_KEPT = 2048


class Series:
    """One labelled histogram."""

    def __init__(self, bounds: Sequence[float] | npt.NDArray[np.float64]) -> None:
        """Start at zero.

        Args:
            bounds: upper bounds of the buckets, ascending, without infinity.
        """
        self._bounds = np.unique(np.asarray(bounds, np.float64))
        self._counts = np.zeros(len(self._bounds) + 1, np.int64)
        self._sum = 0.0
        self._kept: list[float] = []
        self._lock = threading.Lock()

    def observe(self, value: float) -> None:
        """Keep one value."""
        self._kept.append(value)
        if len(self._kept) >= _KEPT:
            self._count()

    def observe_many(self, values: Iterable[float]) -> None:
        """Keep several values; those not finite are left out, or the sum would be lost for good."""
        self._kept.extend(values)
        if len(self._kept) >= _KEPT:
            self._count()

    def samples(self) -> tuple[list[tuple[str, float]], float, float]:
        """Cumulative counts by upper bound, count of all, sum of all."""
        self._count()
        with self._lock:
            counts = np.cumsum(self._counts)
            names = [*map(_label, self._bounds.tolist()), "+Inf"]
            buckets = list(zip(names, map(float, counts), strict=True))
            return buckets, float(counts[-1]), self._sum

    @property
    def count(self) -> int:
        """How many values so far, those not finite left out."""
        self._count()
        return int(self._counts.sum())

    def _count(self) -> None:
        with self._lock:
            # Others go on appending behind these.
            taken = self._kept[:]
            del self._kept[: len(taken)]
            values = np.asarray(taken, np.float64)
            values = values[np.isfinite(values)]
            # Buckets hold what is at most their bound.
            places = np.searchsorted(self._bounds, values)
            self._counts += np.bincount(places, minlength=len(self._counts))
            self._sum += float(values.sum())


def _label(bound: float) -> str:
    """All of its digits: bounds that are written alike would be one bucket."""
    return repr(bound).removesuffix(".0")


class HistogramFamily(Collector):
    """Histograms of one name that differ in their labels."""

    def __init__(self, name: str, text: str, labels: Sequence[str]) -> None:
        """Make an empty family.

        Args:
            name: of the metric.
            text: its help.
            labels: names of the labels.
        """
        self._name = name
        self._text = text
        self._labels = tuple(labels)
        self._series: dict[tuple[str, ...], Series] = {}

    def add(self, *labels: str, bounds: Sequence[float] | npt.NDArray[np.float64]) -> Series:
        """Make the series of these label values, at zero."""
        series = self._series[labels] = Series(bounds)
        return series

    def collect(self) -> Iterable[Metric]:
        """Called by the registry at each scrape."""
        # Not HistogramMetricFamily: it leaves count and sum out where a bound is negative, and
        # densities can be.
        metric = Metric(self._name, self._text, "histogram")
        for values, series in list(self._series.items()):
            labels = dict(zip(self._labels, values, strict=True))
            buckets, count, total = series.samples()
            for bound, cumulative in buckets:
                metric.add_sample(f"{self._name}_bucket", {**labels, "le": bound}, cumulative)
            metric.add_sample(f"{self._name}_count", labels, count)
            metric.add_sample(f"{self._name}_sum", labels, total)
        yield metric
