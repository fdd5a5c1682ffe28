"""How long a graph's runs take, by powers of two of rows: predicts the wait of new requests."""

_WEIGHT = 0.2
"""Weight of the newest run in the moving average: about the last ten runs count."""


class RunTimes:
    """Moving averages of run seconds by row bucket.

    One thread records, any thread predicts: a record replaces the table, so a reader sees the old
    or the new one.
    """

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def record(self, rows: int, seconds: float) -> None:
        """Note a run."""
        bucket = _bucket(rows)
        known = self._seconds.get(bucket, seconds)
        self._seconds = {**self._seconds, bucket: known + _WEIGHT * (seconds - known)}

    def predict(self, rows: int, max_rows: int) -> float:
        """Seconds until `rows` rows have been run in batches of at most `max_rows`."""
        full, rest = divmod(rows, max_rows)
        return full * self._estimate(max_rows) + (self._estimate(rest) if rest else 0.0)

    def _estimate(self, rows: int) -> float:
        """The bucket's average, else the next larger one's, else the largest known scaled up."""
        seconds = self._seconds
        if not seconds:
            return 0.0
        bucket = _bucket(rows)
        larger = [known for known in seconds if known >= bucket]
        if larger:
            return seconds[min(larger)]
        largest = max(seconds)
        return seconds[largest] * bucket / largest


def _bucket(rows: int) -> int:
    return 1 << (rows - 1).bit_length()
