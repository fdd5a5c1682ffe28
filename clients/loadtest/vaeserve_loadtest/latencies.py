"""Latencies in an HDR histogram that processes can send one another and add up."""

from math import ceil
from typing import Any

from hdrh.histogram import HdrHistogram

_MAX_US = 3_600_000_000
_DIGITS = 3  # significant digits a latency keeps


class Latencies:
    """Counts latencies of 1 us to an hour."""

    def __init__(self, digits: int = _DIGITS) -> None:
        """Make an empty one.

        Args:
            digits: significant digits; fewer take less memory.
        """
        self._histogram = HdrHistogram(1, _MAX_US, digits)
        self._digits = digits
        self.sum_s = self.max_s = 0.0

    @property
    def count(self) -> int:
        """How many were recorded."""
        return int(self._histogram.get_total_count())

    def record(self, seconds: float) -> None:
        """Count one."""
        self._histogram.record_value(min(max(round(seconds * 1e6), 1), _MAX_US))
        self.sum_s += seconds
        self.max_s = max(self.max_s, seconds)

    def add(self, other: "Latencies") -> None:
        """Count another's too."""
        self._histogram.add(other._histogram)
        self.sum_s += other.sum_s
        self.max_s = max(self.max_s, other.max_s)

    def percentile_ms(self, percent: float) -> float:
        """Nearest rank: the smallest latency that `percent` of all do not exceed, milliseconds."""
        # The library rounds the rank to the nearest, which hides the tail of a short run: ask for
        # the percentage that is exactly the next rank. (The small number takes back what floats
        # add.)
        rank = max(1, ceil(percent * self.count / 100 - 1e-9))
        value = float(self._histogram.get_value_at_percentile(100 * rank / self.count)) / 1e3
        # The histogram's last digit is coarse; no percentile lies above the slowest.
        return min(value, self.max_s * 1e3)

    def count_above(self, seconds: float) -> int:
        """How many were slower, to the histogram's resolution."""
        # Not the library's iterators, which take a tenth of a second for the slots below 100 ms.
        # Whole microseconds were recorded; the inner rounding takes back what floats add.
        first = self._histogram.get_counts_array_index(int(round(seconds * 1e6, 3)) + 1)
        return sum(self._histogram.counts[first:])

    def __getstate__(self) -> dict[str, Any]:
        """As bytes: the library's own form cannot be pickled."""
        return self.__dict__ | {"_histogram": self._histogram.encode()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """From those bytes."""
        self.__dict__.update(state)
        self._histogram = HdrHistogram(1, _MAX_US, self._digits)
        self._histogram.decode_and_add(state["_histogram"])
