"""Sends a load, from this process or from several, and sums up what they counted."""

import multiprocessing
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait

from vaeserve_loadtest.load import Load
from vaeserve_loadtest.loop import Progress, Share, send
from vaeserve_loadtest.report import Report
from vaeserve_loadtest.server_view import ServerView, read_metrics
from vaeserve_loadtest.tally import Snapshot, Tally

_LEAD_S = 0.1  # from telling the processes the moment to that moment


class WorkerDied(RuntimeError):
    """A process that sent requests ended without a result."""


def run(
    load: Load, progress: Progress = lambda _: None, *, metrics_address: str | None = None
) -> Report:
    """Send a load and measure it; blocks for warm-up and duration, and until the last answer.

    Args:
        load: what to send.
        progress: told how the run is going.
        metrics_address: HOST:PORT of the server's /metrics, for its own view of the measured time.

    Raises:
        ValueError: the model does not take this load.
        VaeserveError: the model cannot be reached. Failures of single requests are counted instead.
        OSError: no metrics at that address.
        WorkerDied: a sending process was killed.
    """
    view = None if metrics_address is None else _View(metrics_address, load)
    began = _now if view is None else view.began
    if load.workers == 1:
        tally = send(load, Share(), began, progress)
    else:
        tally = _send_from_several(load, began, progress)
    return Report.of(load, tally, view.seen() if view else None)


def _now() -> float:
    return time.perf_counter()


class _View:
    """Reads the server's metrics at the beginning and the end of the measured time."""

    def __init__(self, address: str, load: Load) -> None:
        self._address = address
        self._load = load
        self._before = self._after = read_metrics(address)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._start = 0.0

    def began(self) -> float:
        """The moment the run begins, which is now."""
        now = time.perf_counter()
        self._start = now + self._load.warmup_s
        self._thread.start()
        return now

    def seen(self) -> ServerView:
        """What the server saw in between."""
        self._thread.join()
        return ServerView.between(self._before, self._after)

    def _watch(self) -> None:
        if self._load.warmup_s:  # without, the reading would miss requests that are due at once
            time.sleep(max(0.0, self._start - time.perf_counter()))
            self._before = read_metrics(self._address)
        time.sleep(max(0.0, self._start + self._load.duration_s - time.perf_counter()))
        self._after = read_metrics(self._address)


def _send_from_several(load: Load, began: Callable[[], float], progress: Progress) -> Tally:
    """Start the processes, tell them all one moment to begin, and add up their tallies."""
    spawn = multiprocessing.get_context("spawn")  # gRPC does not survive a fork
    pipes: list[Connection] = []
    processes = []
    try:
        for number in range(load.workers):
            ours, theirs = spawn.Pipe()
            process = spawn.Process(
                target=_work, args=(load, Share(number, load.workers), theirs), daemon=True
            )
            process.start()
            theirs.close()  # so that a process that dies ends the pipe
            processes.append(process)
            pipes.append(ours)
        for pipe in pipes:
            _received(pipe)
        moment = began() + _LEAD_S
        for pipe in pipes:
            pipe.send(moment)
        return _collected(load, pipes, progress)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _collected(load: Load, pipes: list[Connection], progress: Progress) -> Tally:
    whole, open_pipes = Tally.of(load), list(pipes)
    while open_pipes:
        snapshot, tallies = Snapshot(0.0), []
        for pipe in wait(open_pipes):
            assert isinstance(pipe, Connection), "This is a bug."  # noqa: S101  for the type checker
            message = _received(pipe)
            if isinstance(message, Tally):
                tallies.append(message)
                open_pipes.remove(pipe)
            elif isinstance(message, Snapshot):
                snapshot.share = max(snapshot.share, message.share)
                snapshot.recent.add(message.recent)
                snapshot.failed += message.failed
        for tally in tallies:
            whole.add(tally)
        if snapshot.share:
            progress(snapshot)
    return whole


def _received(pipe: Connection) -> object:
    try:
        message = pipe.recv()
    except EOFError:
        raise WorkerDied("a sending process ended without a result; is memory short?") from None
    if isinstance(message, Exception):
        raise message
    return message


def _work(load: Load, share: Share, pipe: Connection) -> None:
    """A sending process: says that it is ready, waits for the moment, sends, reports."""

    def moment() -> float:
        # The monotonic clock is one for all processes of a machine.
        pipe.send(None)
        began: float = pipe.recv()
        return began

    try:
        pipe.send(send(load, share, moment, pipe.send))
    except Exception as error:  # noqa: BLE001 - the parent raises it
        pipe.send(error)
