"""The fast lane: calls received on a queue of our own, drained by one thread.

One public grpc.server carries reflection and the port. A lane's methods are registered on
the same server, but their calls arrive on another queue, and one thread takes whatever has arrived,
runs it as one batch and answers it, all in one turn. grpcio's own way costs a change of threads for
every call; asyncio costs more.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import grpc

from vaeserve_server.carrier import Carrier
from vaeserve_server.core_queue import CoreQueue
from vaeserve_server.lane_calls import Door, Kind, UnaryCall, guarded
from vaeserve_server.lane_streams import StreamCall
from vaeserve_server.methods import UNARY, Method
from vaeserve_server.metrics import Metrics
from vaeserve_server.tokens import Guard
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
        *,
        kind: Callable[[Method], Kind],
        name: str = "lane",
    ) -> None:
        """Receive methods of a server that has not been started.

        Args:
            server: the public server.
            methods: all that arrive here.
            metrics: where their series live.
            turn: what the lane's thread runs short batches in.
            on_death: called if the thread dies of a bug, so that readiness can go.
            kind: makes calls of a method.
            name: of the thread.
        """
        self._queue = CoreQueue(server)
        self._turn = turn
        self._on_death = on_death
        self._deferred = ThreadPoolExecutor(_DEFERRED_THREADS, thread_name_prefix="deferred")
        self._carrier = Carrier(self._deferred.submit)
        self._doors = [
            Door(
                self._queue,
                method,
                metrics.rpc(method.path, method.kind),
                self._carrier,
                kind(method),
            )
            for method in methods
        ]
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)

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
        self._carrier.thread = threading.get_ident()
        try:
            while (event := self._queue.wait()) is not None:
                self._turn.begin()
                self._queue.take_turn(event, _TURN_EVENTS, self._turn)
                self._turn.end(self._carrier.send)
                self._carrier.end_turn()
                # It would keep a finished call alive until the next event.
                del event
        except BaseException:
            # Only a bug gets here.
            _log.critical("the lane died", exc_info=True)
            self._on_death()
            raise


def kind_of(guard: Guard | None, method: Method) -> Kind:
    """Calls of a method, to everybody or to those whom the guard lets pass."""
    kind: Kind = UnaryCall if method.kind == UNARY else StreamCall
    return kind if guard is None else guarded(kind, guard)
