"""A worker: one of several processes that serve one port. A supervisor starts it.

When the connection to the supervisor ends, the supervisor is gone. Its successor needs the port and
starts workers of its own, so this one ends at once.
"""

import logging
import os
import sys
import threading
from multiprocessing.connection import Connection

from vaeserve_server import logs
from vaeserve_server.app import App
from vaeserve_server.errors import StartupError
from vaeserve_server.metrics import Metrics
from vaeserve_server.process import serve_until_signal
from vaeserve_server.worker_messages import (
    ALL,
    FAILED,
    METRICS,
    NO_CHANGE,
    READY,
    WorkerStart,
)

_STARTUP_FAILED = 3
_SUPERVISOR_GONE = 4

_log = logging.getLogger(__name__)


class _Reporter:
    """Tells the supervisor what it needs to know, and notices when it is gone."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._reported = -1

    def send(self, kind: bytes, content: bytes = b"") -> None:
        with self._sending:
            self._connection.send_bytes(kind + content)

    def send_metrics(self, metrics: Metrics) -> None:
        self._reported = metrics.activity()  # before: what comes between is sent again
        self.send(METRICS, metrics.exposition())

    def answer(self, metrics: Metrics) -> None:
        """Answer requests for as long as there is a supervisor."""
        try:
            while True:
                request = self._connection.recv_bytes()
                if request == ALL or metrics.activity() != self._reported:
                    self.send_metrics(metrics)
                else:
                    self.send(NO_CHANGE)
        except (EOFError, OSError):
            _log.error("the supervisor is gone")
            os._exit(_SUPERVISOR_GONE)


def main() -> None:
    """Serve until told to stop; arguments: descriptor of the connection, a WorkerStart."""
    connection, start = Connection(int(sys.argv[1])), WorkerStart.decode(sys.argv[2])
    logs.configure(worker=start.number)
    reporter = _Reporter(connection)
    try:
        app = App(start.config, like=start.like)
        threading.Thread(
            target=reporter.answer, args=(app.metrics,), name="supervisor", daemon=True
        ).start()
        serve_until_signal(
            app,
            on_ready=lambda: reporter.send(READY, app.served().encode()),
            on_end=lambda: reporter.send_metrics(app.metrics),
        )
    except StartupError as error:
        reporter.send(FAILED, str(error).encode())
        logging.shutdown()
        os._exit(_STARTUP_FAILED)


if __name__ == "__main__":
    main()
