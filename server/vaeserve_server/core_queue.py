"""A completion queue of our own on grpcio's C-core server.

The one module that knows grpcio's internals (`grpc._cython.cygrpc`). They were tried with the
releases in `TRIED`; `problem` tries the installed one before anything depends on it.

An operation's completion comes back as an event whose tag is the callable that was handed in with
it; the event's fields are read by the functions here.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from operator import attrgetter
from typing import Any

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # it ships no types

from vaeserve_server.turn import Turn

TRIED = ((1, 80), (1, 85))
"""First and last grpcio release, major and minor, that the conformance suite passed on."""

Event = Any
CoreCall = Any
Tag = Callable[[Event], None]
Start = Callable[[], object]
Metadata = tuple[tuple[str, str | bytes], ...]
Trailers = Metadata

_COMPLETE = cygrpc.CompletionType.operation_complete
_SHUTDOWN = cygrpc.CompletionType.queue_shutdown
_OK = cygrpc.StatusCode.ok

# Operations that hold nothing of their call, made once.
_SEND_NO_METADATA = cygrpc.SendInitialMetadataOperation(None, 0)
_SEND_OK = cygrpc.SendStatusFromServerOperation(None, _OK, b"", 0)

deadline_of: Callable[[Event], float] = attrgetter("call_details.deadline")
"""Of an arrival: seconds since 1970; far in the future without a deadline."""

metadata_of: Callable[[Event], Metadata] = attrgetter("invocation_metadata")
"""Of an arrival: pairs of names and values."""

_PROBE_S = 5.0

_log = logging.getLogger(__name__)


class CoreQueue:
    """The queue, and the methods whose calls arrive on it."""

    def __init__(self, server: grpc.Server) -> None:
        """Add the queue to a server that has not been started."""
        self._core: Any = server._cy_server  # type: ignore[attr-defined]
        self._queue = cygrpc.CompletionQueue()
        self._core.register_completion_queue(self._queue)

    def register(self, path: str, tag: Tag) -> Start:
        """Have the calls of a method arrive here; before the server is started.

        Args:
            path: of the method.
            tag: what is called with each.

        Returns:
            asks for one call, after the server has been started; raises ValueError once it stops.
        """
        self._core.register_method(path)
        return partial(self._core.request_registered_call, self._queue, self._queue, path, tag)

    def wait(self) -> Event | None:
        """The next event; None once the queue is shut down and empty."""
        event = self._queue.poll()
        return None if event.completion_type == _SHUTDOWN else event

    def take_turn(self, event: Event, limit: int, turn: Turn) -> None:
        """Give an event to its tag, then whatever others are there already.

        Args:
            event: the first.
            limit: most events.
            turn: it ends early where this is full.
        """
        poll = self._queue.poll
        while True:
            try:
                event.tag(event)
            except Exception:  # noqa: BLE001  the other calls go on
                _log.exception("an event of the lane failed")
            limit -= 1
            if turn.full or not limit:
                return
            event = poll(deadline=0)
            if event.completion_type != _COMPLETE:
                return

    def shut_down(self) -> None:
        """Let `wait` end. No operation may be begun any more: C-core would abort the process."""
        self._queue.shutdown()


def receive_message(call: CoreCall, tag: Tag) -> None:
    """Ask for the next message."""
    call.start_server_batch((cygrpc.ReceiveMessageOperation(0),), tag)


def message_of(event: Event) -> bytes | None:
    """The message; None where the caller has ended its side, or is gone."""
    message: bytes | None = event.batch_operations[0].message()
    return message


def watch(call: CoreCall, tag: Tag) -> None:
    """Ask to be told when the call is over; once a call."""
    call.start_server_batch((cygrpc.ReceiveCloseOnServerOperation(0),), tag)


def was_cancelled(event: Event) -> bool:
    """Of the event that `watch` or `reply` asked for: whether the call ended before its answer."""
    return bool(event.batch_operations[-1].cancelled())


def reply(call: CoreCall, data: bytes, trailers: Trailers, tag: Tag, *, watched: bool) -> Start:
    """Make the answer of a unary call.

    Args:
        call: which.
        data: the message.
        trailers: metadata behind it.
        tag: is told when the call is over.
        watched: whether `watch` was asked for before.

    Returns:
        sends it.
    """
    message = cygrpc.SendMessageOperation(data, 0)
    ok = cygrpc.SendStatusFromServerOperation(trailers, _OK, b"", 0) if trailers else _SEND_OK
    if watched:
        operations: tuple[Any, ...] = (_SEND_NO_METADATA, message, ok)
    else:
        close = cygrpc.ReceiveCloseOnServerOperation(0)
        operations = (_SEND_NO_METADATA, message, ok, close)
    return partial(call.start_server_batch, operations, tag)


def send_message(call: CoreCall, data: bytes, tag: Tag, *, first: bool) -> None:
    """Send one message of a stream; the next one only after the event."""
    operations: tuple[Any, ...] = (cygrpc.SendMessageOperation(data, 0),)
    if first:
        operations = (_SEND_NO_METADATA, *operations)
    call.start_server_batch(operations, tag)


def end(
    call: CoreCall,
    code: int,
    details: str,
    trailers: Trailers,
    tag: Tag,
    *,
    first: bool,
    watched: bool,
) -> None:
    """End a call with a status; `first` says whether nothing was sent before."""
    operations: tuple[Any, ...] = (
        cygrpc.SendStatusFromServerOperation(trailers, code, details.encode(), 0),
    )
    if first:
        operations = (_SEND_NO_METADATA, *operations)
    if not watched:
        operations += (cygrpc.ReceiveCloseOnServerOperation(0),)
    call.start_server_batch(operations, tag)


def nothing(_: Event) -> None:
    """The tag of an event that nobody waits for."""


def problem() -> str | None:
    """Try the whole life of a call on the installed grpcio.

    Returns:
        what is not as this module needs it; None if all is.
    """
    release = tuple(map(int, grpc.__version__.split(".")[:2]))
    if not TRIED[0] <= release <= TRIED[1]:
        first, last = (".".join(map(str, tried)) for tried in TRIED)
        return f"grpcio {grpc.__version__} is not one of {first} to {last}, which were tried"
    try:
        sound = _probe()
    except Exception as error:  # noqa: BLE001  whatever it is, the queue cannot be used
        return f"grpcio {grpc.__version__}: {type(error).__name__}: {error}"
    return None if sound else f"grpcio {grpc.__version__} answers otherwise than expected"


def _probe() -> bool:
    path = "/vaeserve.probe/Echo"
    server = grpc.server(ThreadPoolExecutor(1))
    queue = CoreQueue(server)
    port = server.add_insecure_port("127.0.0.1:0")
    seen: dict[str, Any] = {}

    def arrived(event: Event) -> None:
        if event.success:
            seen["call"], seen["metadata"] = event.call, metadata_of(event)
            seen["deadline"] = deadline_of(event)
            receive_message(event.call, received)

    def received(event: Event) -> None:
        data = message_of(event) or b""
        reply(seen["call"], data, (("end", "1"),), answered, watched=False)()

    def answered(event: Event) -> None:
        seen["cancelled"] = was_cancelled(event)

    def serve() -> None:
        while (event := queue.wait()) is not None:
            event.tag(event)

    ask = queue.register(path, arrived)
    server.start()
    ask()
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    deadline = time.time() + _PROBE_S
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: Any = channel.unary_unary(path)
        echo, outcome = call.with_call(b"?", timeout=_PROBE_S, metadata=(("ask", "1"),))
    server.stop(0).wait(_PROBE_S)
    queue.shut_down()
    thread.join(_PROBE_S)
    return (
        not thread.is_alive()
        and echo == b"?"
        and ("end", "1") in tuple(outcome.trailing_metadata())
        and ("ask", "1") in seen["metadata"]
        and abs(seen["deadline"] - deadline) < _PROBE_S / 2
        and seen["cancelled"] is False
    )
