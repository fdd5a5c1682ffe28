"""Histograms of KL and reconstruction over rows, by which drift is seen.

Their bounds are the bundle's own calibration percentiles: were the live rows drawn like the
validation rows, 1 % would fall above the last bound and half below the middle one; other shares are
drift.
"""

import threading
from collections.abc import Iterable

import numpy as np
from prometheus_client.core import Metric

from vaeserve.v1.noise import Doubles, Floats
from vaeserve_server.histograms import HistogramFamily, Series
from vaeserve_server.nats import kl_nats

# Posteriors kept before their KL is computed: half a megabyte.
_KEPT_FLOATS = 1 << 16


class LatentHealth(HistogramFamily):
    """A histogram over rows, per model."""

    def __init__(self, name: str, text: str) -> None:
        """Make an empty collector."""
        super().__init__(name, text, ("model",))
        self._by_model: dict[str, Series] = {}

    def calibrate(self, model: str, percentiles: Doubles) -> None:
        """Set a model's bucket bounds, nats."""
        self._by_model[model] = self.add(model, bounds=percentiles)

    def observe(self, model: str, values: Doubles) -> None:
        """Count rows.

        Args:
            model: a calibrated model.
            values: nats, [rows].
        """
        self._by_model[model].observe_many(values.tolist())


class KlHealth(LatentHealth):
    """The KL of encoded rows, computed for thousands at once: alone it costs more than encoding."""

    def __init__(self, name: str, text: str) -> None:
        """Make an empty collector."""
        super().__init__(name, text)
        self._kept: list[tuple[str, Floats, Floats]] = []
        self._kept_floats = 0
        self._lock = threading.Lock()

    def encoded(self, model: str, mu: Floats, log_var: Floats) -> None:
        """Keep the posteriors of a batch, [rows, ...] each; they must not be changed any more."""
        if model not in self._by_model:
            return  # it is being warmed up: these rows are nobody's
        self._kept.append((model, mu, log_var))
        self._kept_floats += mu.size
        if self._kept_floats >= _KEPT_FLOATS:
            self._compute()

    def collect(self) -> Iterable[Metric]:
        """Called by the registry at each scrape."""
        self._compute()
        return super().collect()

    def _compute(self) -> None:
        with self._lock:
            # Others go on appending behind these.
            taken = self._kept[:]
            del self._kept[: len(taken)]
            self._kept_floats = 0
        for model in {model for model, _, _ in taken}:
            own = [(mu, log_var) for name, mu, log_var in taken if name == model]
            mu, log_var = (np.concatenate(parts) for parts in zip(*own, strict=True))
            with np.errstate(over="ignore", invalid="ignore"):  # rows on which the model overflowed
                self.observe(model, kl_nats(mu, log_var))
