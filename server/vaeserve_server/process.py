"""The life of a process that serves: start, serve until a signal, drain, end."""

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import NoReturn

from vaeserve_server.app import App
from vaeserve_server.engine import EngineLostError

_log = logging.getLogger(__name__)

KILLED_AT_ONCE = 1
"""Exit code after a second signal."""

DEVICE_LOST = 5
"""Exit code after a GPU has failed for good; a new process may use it again."""

# What a thread waits for the interpreter while another computes. A scrape computes for tens of
# milliseconds, and a request has to wait several times: with Python's 5 ms it took as long as that.
_SWITCH_S = 100e-6


def serve_until_signal(
    app: App,
    *,
    on_ready: Callable[[], None] = lambda: None,
    on_end: Callable[[], None] = lambda: None,
) -> NoReturn:
    """Run a server on the main thread. SIGTERM and SIGINT drain it, a second one ends at once.

    Args:
        app: not started.
        on_ready: called once it is ready.
        on_end: called last, once every call has been answered.

    Raises:
        StartupError: see App.start.
    """
    sys.setswitchinterval(_SWITCH_S)
    # Another thread than the main one may take the signal, as one that is just being made. Python
    # runs the handler on the main thread, but does not wake it for that; this does.
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    stopping = False

    def on_signal(*_: object) -> None:
        nonlocal stopping
        if stopping:
            os._exit(KILLED_AT_ONCE)
        if not app.loaded:
            os._exit(0)  # nobody is being served yet
        stopping = True

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    try:
        app.start()
    except EngineLostError:
        _log.critical("the device has failed", exc_info=True)
        logging.shutdown()
        os._exit(DEVICE_LOST)
    on_ready()
    while not stopping:
        woken.recv(1)
    app.drain()
    on_end()
    logging.shutdown()
    # Not sys.exit: a run that hangs beyond the grace would hold the process.
    os._exit(DEVICE_LOST if app.device_lost else 0)
