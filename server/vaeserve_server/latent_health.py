"""Histograms of KL and reconstruction over rows, by which drift is seen."""

import threading
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from vaeserve_server.call import Floats


class LatentHealth(Collector):
    """Histogram over rows, per model; its bounds are the bundle's own calibration percentiles.

    Were the live rows drawn like the validation rows, 1 % would fall above the last bound and half
    below the middle one; other shares are drift. Whole batches are counted at once, which
    prometheus_client's histogram cannot.
    """

    def __init__(self, name: str, text: str) -> None:
        """Make an empty collector."""
        self._name = name
        self._text = text
        self._lock = threading.Lock()
        self._bounds: dict[str, npt.NDArray[np.float64]] = {}
        self._counts: dict[str, npt.NDArray[np.int64]] = {}
        self._sums: dict[str, float] = {}

    def calibrate(self, model: str, percentiles: npt.NDArray[np.float64]) -> None:
        """Set a model's bucket bounds, nats, ascending."""
        with self._lock:
            self._bounds[model] = np.unique(percentiles)
            self._counts[model] = np.zeros(len(self._bounds[model]) + 1, np.int64)
            self._sums[model] = 0.0

    def observe(self, model: str, values: Floats) -> None:
        """Count rows.

        Args:
            model: a calibrated model.
            values: nats, [rows]; what is not finite is left out, or the sum would be lost for good.
        """
        values = values[np.isfinite(values)]
        bounds = self._bounds[model]
        counts = np.bincount(np.searchsorted(bounds, values), minlength=len(bounds) + 1)
        with self._lock:
            self._counts[model] += counts
            self._sums[model] += float(values.sum(dtype=np.float64))

    def collect(self) -> Iterable[Metric]:
        """Called by the registry at each scrape."""
        # Not HistogramMetricFamily: it leaves count and sum out where a bound is negative, and
        # densities can be.
        metric = Metric(self._name, self._text, "histogram")
        with self._lock:
            for model, bounds in self._bounds.items():
                counts = np.cumsum(self._counts[model])
                names = [*(f"{bound:.6g}" for bound in bounds), "+Inf"]
                for name, count in zip(names, counts, strict=True):
                    labels = {"model": model, "le": name}
                    metric.add_sample(f"{self._name}_bucket", labels, float(count))
                metric.add_sample(f"{self._name}_count", {"model": model}, float(counts[-1]))
                metric.add_sample(f"{self._name}_sum", {"model": model}, self._sums[model])
        yield metric
