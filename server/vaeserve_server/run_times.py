"""How long a graph's runs take, by powers of two of rows: predicts the wait of new requests."""

_WEIGHT = 0.2
"""Weight of the newest run in the moving average: about the last ten runs count."""

_FORGET = 1.005
"""What the fastest run grows by with every other run: a machine that changes is noticed."""


class RunTimes:
    """Moving averages of run seconds by row bucket.

    One thread at a time records, any thread predicts: a record replaces the table, so a reader sees
    the old or the new one.
    """

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        self._table: list[float] = []
        self._fastest: dict[int, float] = {}

    def record(self, rows: int, seconds: float) -> None:
        """Note a run."""
        bucket = _bucket(rows)
        known = self._seconds.get(bucket)
        if known is None:
            self._seconds[bucket] = seconds
            self._table = self._estimates()
        else:
            known += _WEIGHT * (seconds - known)
            self._seconds[bucket] = known
            # It stands for the smaller buckets that have not been seen, too.
            below = bucket
            while below >= 0 and self._seconds.get(below, known) == known:
                self._table[below] = known
                below -= 1
        fastest = self._fastest.get(bucket, seconds)
        self._fastest[bucket] = min(seconds, fastest * _FORGET)

    def fastest(self, rows: int) -> float:
        """Seconds that a run of so many rows takes undisturbed, or the average of a larger one.

        What a run is slowed down by, such as other threads that want the interpreter, must not
        decide on which thread it runs: that would keep it where it is slow.
        """
        bucket = _bucket(rows)
        return self._fastest.get(bucket) or self._estimate(rows)

    def predict(self, rows: int, max_rows: int) -> float:
        """Seconds until `rows` rows have been run in batches of at most `max_rows`."""
        if rows <= max_rows:
            return self._estimate(rows) if rows else 0.0
        full, rest = divmod(rows, max_rows)
        return full * self._estimate(max_rows) + (self._estimate(rest) if rest else 0.0)

    def _estimate(self, rows: int) -> float:
        table, bucket = self._table, _bucket(rows)
        if not table:
            return 0.0
        if bucket < len(table):
            return table[bucket]
        return table[-1] * (1 << (bucket - len(table) + 1))

    def _estimates(self) -> list[float]:
        """By bucket: its average, else the next larger one's."""
        table: list[float] = []
        for bucket in sorted(self._seconds):
            table += [self._seconds[bucket]] * (bucket + 1 - len(table))
        return table


def _bucket(rows: int) -> int:
    """Number of the power of two that holds so many rows."""
    return (rows - 1).bit_length()
