"""The fast lane: calls received on a queue of our own, drained by one thread.

One public grpc.server carries health, reflection and the port. The lane's methods are registered on
the same server, but their calls arrive on another queue, and one thread takes whatever has arrived,
runs it as one batch and answers it, all in one turn. grpcio's own way costs a change of threads for
every call; asyncio costs more.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import grpc

from vaeserve_server.core_queue import CoreQueue, Event
from vaeserve_server.lane_calls import Carrier, StreamCall, UnaryCall
from vaeserve_server.methods import UNARY, Method
from vaeserve_server.metrics import Metrics, RpcMetrics
from vaeserve_server.turn import Turn

_log = logging.getLogger(__name__)

# Calls of one method that C-core may hand over before we come back for more.
_REQUESTED = 64

# Events of one turn: beyond it what has arrived is run before more is read.
_TURN_EVENTS = 256

# For what would stall the lane: huge messages, noise by the thousand.
_DEFERRED_THREADS = 2


class Lane:
    """The queue, its thread, and the methods on it."""

    def __init__(
        self,
        server: grpc.Server,
        methods: Iterable[Method],
        metrics: Metrics,
        turn: Turn,
        on_death: Callable[[], None],
    ) -> None:
        """Receive methods of a server that has not been started.

        Args:
            server: the public server.
            methods: all that arrive here.
            metrics: where their series live.
            turn: what the lane's thread runs short batches in.
            on_death: called if the thread dies of a bug, so that readiness can go.
        """
        self._queue = CoreQueue(server)
        self._turn = turn
        self._on_death = on_death
        self._deferred = ThreadPoolExecutor(_DEFERRED_THREADS, thread_name_prefix="deferred")
        self._carrier = Carrier(self._deferred.submit)
        self._doors = [
            _Door(self._queue, method, metrics.rpc(method.path, method.kind), self._carrier)
            for method in methods
        ]
        self._thread = threading.Thread(target=self._loop, name="lane", daemon=True)

    def start(self) -> None:
        """Ask for calls; after the server has been started."""
        for door in self._doors:
            for _ in range(_REQUESTED):
                door.open()
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End the thread; after the server has been stopped.

        Where calls are still unanswered when the time is over, the queue stays: an engine that
        hangs may still reply to it.
        """
        # What arrived and was not begun has lost its connection.
        self._carrier.closed = True
        if not self._thread.ident:
            self._queue.shut_down()  # never started
        elif self._carrier.wait_until_idle(timeout_s):
            self._queue.shut_down()
            self._thread.join()
        else:
            _log.warning("calls are unanswered", extra={"calls": self._carrier.in_flight})
        self._deferred.shutdown(wait=False)

    def _loop(self) -> None:
        self._turn.own()
        try:
            while (event := self._queue.wait()) is not None:
                self._take_turn(event)
                # It would keep a finished call alive until the next event.
                del event
        except BaseException:
            # Only a bug gets here.
            _log.critical("the lane died", exc_info=True)
            self._on_death()
            raise

    def _take_turn(self, event: Event) -> None:
        """Take what has arrived, run it, answer it."""
        next_now, turn = self._queue.next_now, self._turn
        left = _TURN_EVENTS
        while event is not None:
            try:
                event.tag(event)
            except Exception:  # noqa: BLE001  the other calls go on
                _log.exception("an event of the lane failed")
            left -= 1
            event = next_now() if left and not turn.full else None
        turn.end()
        self._carrier.watch_unanswered()
        for door in self._doors:
            if door.arrived:
                door.count()


class _Door:
    """Where the calls of one method come in.

    Attributes:
        arrived: calls that the metrics have not been told of.
    """

    def __init__(
        self, queue: CoreQueue, method: Method, metrics: RpcMetrics, carrier: Carrier
    ) -> None:
        self._queue = queue
        self._method = method
        self._metrics = metrics
        self._carrier = carrier
        self._kind = UnaryCall if method.kind == UNARY else StreamCall
        self.arrived = 0
        queue.register(method.path)

    def open(self) -> None:
        """Ask for one more call."""
        self._queue.request_call(self._method.path, self)

    def __call__(self, event: Event) -> None:
        """A call has come in, or, without success, none will any more."""
        if not event.success:
            return
        self.open()
        call = self._kind(self._carrier, self._method, self._metrics, event)
        # Only now: from here on the queue is not shut down before the call is over.
        if self._carrier.closed:
            self._carrier.over()
            return
        self.arrived += 1
        call.begin(event)

    def count(self) -> None:
        """Tell the metrics."""
        self._metrics.started(self.arrived)
        self.arrived = 0
