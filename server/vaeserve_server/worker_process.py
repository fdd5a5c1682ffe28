"""A worker as its supervisor sees it: a child process and the connection to it."""

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Pipe

from vaeserve_server.worker_messages import (
    FAILED,
    METRICS,
    READY,
    Served,
    WorkerStart,
)

# Requests that a worker has not answered: a hanging one must not fill the connection, or the
# supervisor would hang too.
_MAX_ASKED = 16


class WorkerProcess:
    """One child process, from its start to its end.

    Attributes:
        number: its place among the workers.
        served: what it serves; None before it is ready.
        failure: why it could not start, if it said so.
        metrics: its last exposition, Prometheus text.
        started: when, monotonic seconds.
    """

    def __init__(self, start: WorkerStart, changed: Callable[["WorkerProcess"], None]) -> None:
        """Start the process. A fresh interpreter: a fork would inherit this one's locks.

        Args:
            start: what it is told.
            changed: called, on a thread of this object, once it is ready and once it has ended.
        """
        self.number = start.number
        self.served: Served | None = None
        self.failure: str | None = None
        self.metrics = b""
        self.started = time.monotonic()
        self._changed = changed
        self._asked = self._answered = 0
        self._news = threading.Condition()
        self._connection, theirs = Pipe()
        self._process = subprocess.Popen(  # noqa: S603  our own interpreter and module
            [
                *(sys.executable, "-P", "-m", "vaeserve_server.worker"),
                *(str(theirs.fileno()), start.encode()),
            ],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            # Ctrl-C at a terminal goes to the whole group; to a worker it would be a second signal.
            process_group=0,
        )
        theirs.close()
        self._listener = threading.Thread(
            target=self._listen, name=f"worker-{self.number}", daemon=True
        )
        self._listener.start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.returncode

    def terminate(self) -> None:
        """Have it drain and end."""
        self._process.terminate()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def join(self) -> None:
        """Wait until it has ended."""
        self._listener.join()

    def ask(self, request: bytes) -> int:
        """Request its metrics.

        Args:
            request: ALL or CHANGES.

        Returns:
            a ticket for `wait_answered`.
        """
        with self._news:
            if self._asked - self._answered < _MAX_ASKED:
                with contextlib.suppress(OSError):  # it has ended, as `_listen` will see
                    self._connection.send_bytes(request)
                self._asked += 1
            return self._asked

    def wait_answered(self, ticket: int, until: float) -> None:
        """Wait until `metrics` is as new as the request, the worker ends, or the time is up.

        Args:
            ticket: of `ask`.
            until: monotonic seconds.
        """
        with self._news:
            self._news.wait_for(
                lambda: self._answered >= ticket or self.exit_code is not None,
                max(0.0, until - time.monotonic()),
            )

    def _listen(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                self._take(self._connection.recv_bytes())
        # It has closed its end, which only its own end does.
        self._process.wait()
        with self._news:
            self._news.notify_all()
        self._connection.close()
        self._changed(self)

    def _take(self, message: bytes) -> None:
        kind, content = message[:1], message[1:]
        if kind == READY:
            self.served = Served.decode(content)
            self._changed(self)
        elif kind == FAILED:
            self.failure = content.decode()
        else:
            with self._news:
                if kind == METRICS:
                    self.metrics = content
                self._answered += 1
                self._news.notify_all()
