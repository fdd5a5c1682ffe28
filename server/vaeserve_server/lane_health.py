"""The health service on a lane: no call holds a thread, whether it sends, reads or neither."""

from functools import partial

from vaeserve_server import core_queue as core
from vaeserve_server.core_queue import Event
from vaeserve_server.errors import Unavailable
from vaeserve_server.health import Health, Watcher
from vaeserve_server.lane_calls import NO_MESSAGE, Door, Kind, LaneCall, UnaryCall, on_the_wire
from vaeserve_server.methods import UNARY, Method
from vaeserve_server.status import status_of


def health_kind(health: Health, method: Method) -> Kind:
    """Calls of a method of the health service."""
    return UnaryCall if method.kind == UNARY else partial(WatchCall, health)


class WatchCall(LaneCall):
    """A call of Watch: one message, and states until it is over.

    Events come on the lane's thread alone, states from any.
    """

    __slots__ = ("_first", "_health", "_service", "_watcher")

    def __init__(self, health: Health, door: Door, event: Event) -> None:
        super().__init__(door, event)
        self._health = health
        self._watcher = Watcher(self._send)
        self._service: str | None = None
        self._first = True

    def begin(self) -> None:
        """Ask for the end and for the message."""
        core.watch(self._core, self._closed)
        core.receive_message(self._core, self._received)

    def _received(self, event: Event) -> None:
        data = core.message_of(event)
        if self.cancelled:
            return
        if data is None:
            core.end(self._core, *NO_MESSAGE, core.nothing, first=True, watched=True)
        else:
            self._door.method.answer(data, self, self._asked)

    def _asked(self, service: bytes | Exception) -> None:
        if isinstance(service, Exception):
            self._end(service)
            return
        self._service = service.decode()
        self._health.begin_watch(self._service, self._watcher)

    def _send(self, state: bytes | None) -> None:
        if state is None:
            self._end(Unavailable.draining())
            return
        core.send_message(self._core, state, self._taken, first=self._first)
        self._first = False

    def _end(self, error: Exception) -> None:
        status = on_the_wire(status_of(error, self._door.method.path))
        core.end(self._core, *status, core.nothing, first=self._first, watched=True)

    def _taken(self, _: Event) -> None:
        self._watcher.taken()

    def _closed(self, _: Event) -> None:
        self.cancelled = True
        if self._service is not None:
            self._health.end_watch(self._service, self._watcher)
        self._door.carrier.over()
