"""What the transports and the batchers tell the metrics, cheaply, while they work."""

import threading
import time
from collections import Counter
from typing import NamedTuple

import grpc

from vaeserve_server.batcher import Batcher
from vaeserve_server.call import Outputs
from vaeserve_server.series import Series
from vaeserve_server.statistics import GraphStatistics

# 50 us to 10 s, 3 steps a decade: a small graph's run and a drained queue both fall inside.
_SECONDS = (
    50e-6,
    100e-6,
    250e-6,
    500e-6,
    1e-3,
    2.5e-3,
    5e-3,
    10e-3,
    25e-3,
    50e-3,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
)
_ROWS = tuple(float(1 << power) for power in range(11))
_CLOSE_REASONS = ("idle", "full", "timeout")
_REJECT_REASONS = (
    "QUEUE_FULL",
    "QUEUE_WAIT",
    "EXPIRED",
    "CANCELLED",
    "OUT_OF_MEMORY",
    "DRAINING",
)

# What is kept before it is counted.
_KEPT_BATCHES = 512
_KEPT_MESSAGES = 4096


class RpcMetrics:
    """What every gRPC dashboard expects of one method; counted at the next scrape.

    Attributes:
        calls: that came in. The lane's thread, alone there, adds to it directly; threads that are
            not alone call `started`.
        messages: likewise, and `received`.
        succeeded: to be called with the seconds of a call that was answered with OK.
    """

    def __init__(self, series: Series, path: str, kind: str) -> None:
        """Pre-register the method at 0 for every status code.

        Args:
            series: all of them.
            path: "/package.Service/Method".
            kind: grpc_type, such as `unary`.
        """
        _, service, method = path.split("/")
        labels = (kind, service, method)
        self._started = series.rpc_started.labels(*labels)
        self._received = series.rpc_received.labels(*labels)
        self._sent = series.rpc_sent.labels(*labels)
        self._seconds = series.rpc_seconds.add(*labels, bounds=_SECONDS)
        self._handled = {
            code: series.rpc_handled.labels(*labels, code.name) for code in grpc.StatusCode
        }
        self._unary = kind == "unary"
        self._kept: list[None] = []
        self.calls = 0
        self.messages = 0
        self.succeeded = self._seconds.observe
        self._counted = (0, 0, 0)
        self._failed = 0
        self._lock = threading.Lock()

    def started(self) -> None:
        """A call came in."""
        with self._lock:
            self.calls += 1

    def received(self) -> None:
        """A message came in."""
        with self._lock:
            self.messages += 1

    def sent(self) -> None:
        """A message of a stream was sent."""
        self._kept.append(None)
        if len(self._kept) >= _KEPT_MESSAGES:
            self.settle()

    def failed(self, code: grpc.StatusCode, seconds: float) -> None:
        """A call was answered with an error."""
        with self._lock:
            self._failed += 1
            self._handled[code].inc()
            self._seconds.observe(seconds)

    def activity(self) -> int:
        """A number that changes with every call begun or answered."""
        return self.calls + self._seconds.count

    def settle(self) -> None:
        """Count what came since; what succeeded is every answered call that did not fail."""
        with self._lock:
            now = self.calls, self.messages, self._seconds.count - self._failed
            calls, messages, succeeded = (
                new - old for new, old in zip(now, self._counted, strict=True)
            )
            self._counted = now
            self._started.inc(calls)
            self._received.inc(messages)
            self._handled[grpc.StatusCode.OK].inc(succeeded)
            sent = len(self._kept)
            del self._kept[:sent]
            self._sent.inc(sent + (succeeded if self._unary else 0))


class _Batch(NamedTuple):
    rows: int
    padding: int
    seconds: float
    waits: list[float]
    close_reason: str
    inline: bool
    ended: float


class GraphMetrics:
    """Observer of one batcher.

    Attributes:
        statistics: its totals, of one moment.
    """

    def __init__(self, series: Series, model: str, graph: str) -> None:
        """Pre-register the graph's series at 0."""
        labels = (model, graph)
        self._series = series
        self._labels = labels
        self._encodes = graph == "encoder"
        self._queue_seconds = series.queue_seconds.add(*labels, bounds=_SECONDS)
        self._run_seconds = series.run_seconds.add(*labels, bounds=_SECONDS)
        self._batch_rows = series.batch_rows.add(*labels, bounds=_ROWS)
        self._padding = series.padding_rows.add(*labels, bounds=(0.0, *_ROWS))
        self._rows = series.rows.labels(*labels)
        self._closes = {why: series.closes.labels(*labels, why) for why in _CLOSE_REASONS}
        self._placements = {
            inline: series.placements.labels(*labels, where)
            for inline, where in ((True, "inline"), (False, "thread"))
        }
        self.statistics = GraphStatistics(self.settle)
        self._kept: list[_Batch] = []
        self._lock = threading.Lock()
        self._rejections = {why: series.rejected.labels(*labels, why) for why in _REJECT_REASONS}

    def watch(self, batcher: Batcher) -> None:
        """Read the gauges from the batcher at each scrape, so that they cannot drift."""
        self._series.queue_rows.labels(*self._labels).set_function(lambda: batcher.queued_rows)
        self._series.in_flight.labels(*self._labels).set_function(lambda: batcher.in_flight)

    def ran(
        self,
        *,
        rows: int,
        padding: int,
        seconds: float,
        waits: list[float],
        close_reason: str,
        inline: bool,
    ) -> None:
        """See runner.Observer; counted later, since counting one batch costs as much as many."""
        ended = time.time()
        self._kept.append(_Batch(rows, padding, seconds, waits, close_reason, inline, ended))
        if len(self._kept) >= _KEPT_BATCHES:
            self.settle()

    def settle(self) -> None:
        """Count what was kept."""
        with self._lock:
            # Others go on appending behind these.
            taken = self._kept[:]
            del self._kept[: len(taken)]
            self._run_seconds.observe_many(batch.seconds for batch in taken)
            self._batch_rows.observe_many(batch.rows for batch in taken)
            self._padding.observe_many(batch.padding for batch in taken)
            self._queue_seconds.observe_many(wait for batch in taken for wait in batch.waits)
            self._rows.inc(sum(batch.rows for batch in taken))
            for reason, count in Counter(batch.close_reason for batch in taken).items():
                self._closes[reason].inc(count)
            for inline, count in Counter(batch.inline for batch in taken).items():
                self._placements[inline].inc(count)
            for batch in taken:
                self.statistics.ran(batch.rows, batch.seconds, batch.waits, batch.ended)

    def computed(self, outputs: Outputs) -> None:
        """See runner.Observer; the encoder's are looked at for their KL."""
        if self._encodes:
            self.encoded(outputs)

    def encoded(self, posterior: Outputs) -> None:
        """Posteriors (mu, log_var) were computed."""
        self._series.kl.encoded(self._labels[0], *posterior)

    def rejected(self, reason: str) -> None:
        """See runner.Observer."""
        self._rejections[reason].inc()
