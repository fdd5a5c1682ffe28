"""The health service on grpcio's public API, where whoever keeps us waiting holds a thread.

What that can take from others is bounded: docs/architecture.md, "Callers that keep us waiting".
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial

import grpc

from vaeserve_server import standard
from vaeserve_server.errors import Unavailable
from vaeserve_server.health import HEALTH_SERVICE, Health, Watcher
from vaeserve_server.metrics import Metrics
from vaeserve_server.patience import Patience
from vaeserve_server.status import status_of

# Health has these to itself: whatever our own calls wait for, it answers.
_CALLS = 64
_SENDERS = 32

# A state is a few bytes, and so is what asks for one: who takes longer does not read, or is gone.
_PATIENCE_S = 5.0

_Send = Callable[[bytes | None], None]


def add_health(server: grpc.Server, health: Health, ends: ExitStack) -> None:
    """Have a server tell everybody its health.

    Args:
        server: not started.
        health: what there is to tell.
        ends: is given what ends the threads, after the server.
    """
    calls = standard.new_pool(_CALLS, "health", ends)
    senders = standard.new_pool(_SENDERS, "watchers", ends)
    patience = Patience(_PATIENCE_S)
    ends.callback(patience.close)
    metrics = Metrics()  # shown nowhere: health is no load
    standard.add_methods(server, [health.check], metrics, guard=None, pool=calls, patience=patience)
    counts = metrics.rpc(health.watch.path, health.watch.kind)

    def watch(messages: Iterator[bytes], context: grpc.ServicerContext, send: _Send) -> None:
        services: list[bytes | Exception] = []
        with standard.Counted(health.watch, counts, context) as counted:
            asked = standard.one_message(messages, context, patience)
            health.watch.answer(asked, counted.call, services.append)
            (service,) = services
            if isinstance(service, Exception):
                raise service
        ending = status_of(Unavailable.draining(), health.watch.path)
        context.set_code(ending.code)  # if it is we who end it
        context.set_details(ending.details)
        context.set_trailing_metadata(ending.trailing_metadata)

        def deliver(state: bytes | None) -> None:
            with patience.waiting_for(context):
                send(state)
            watcher.taken()

        def begin_to_send(state: bytes | None) -> None:
            with suppress(RuntimeError):  # the server has stopped, and its watchers are gone
                senders.submit(deliver, state)

        watcher = Watcher(begin_to_send)
        name = service.decode()
        health.begin_watch(name, watcher)
        leave = partial(health.end_watch, name, watcher)
        if not context.add_callback(leave):
            leave()

    # grpcio then calls it with `send` and keeps no thread until the watcher leaves.
    watch.experimental_non_blocking = True  # type: ignore[attr-defined]
    standard.run_in_pool(watch, calls)
    server.add_registered_method_handlers(
        HEALTH_SERVICE, {"Watch": grpc.stream_stream_rpc_method_handler(watch)}
    )
