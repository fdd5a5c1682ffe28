"""Sends a load from several processes, and adds up what they counted."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from vaeserve_loadtest.load import Load
from vaeserve_loadtest.loop import Progress, Share, send
from vaeserve_loadtest.tally import Snapshot, Tally

_LEAD_S = 0.1  # from telling the processes the moment to that moment
_END_S = 10.0  # for a process that let go of its pipe to be gone


class WorkerDied(RuntimeError):
    """A process that sent requests ended without a result."""


def send_from_several(load: Load, began: Callable[[], float], progress: Progress) -> Tally:
    """Start the processes, tell them all one moment to begin, and add up their tallies.

    Args:
        load: what to send, by all of them together.
        began: called once all are ready; returns the moment at which the run is to begin.
        progress: told how it is going.

    Raises:
        WorkerDied: one ended without a result.
        Exception: as `loop.send` in one of them.
    """
    spawn = multiprocessing.get_context("spawn")  # gRPC does not survive a fork
    processes: dict[Connection, BaseProcess] = {}
    try:
        for number in range(load.workers):
            ours, theirs = spawn.Pipe()
            process = spawn.Process(
                target=_work, args=(load, Share(number, load.workers), theirs), daemon=True
            )
            with _deaf_to_interrupts():
                process.start()
            theirs.close()  # so that a process that dies ends the pipe
            processes[ours] = process
        for pipe in processes:
            _received(pipe, processes)
        moment = began() + _LEAD_S
        for pipe in processes:
            pipe.send(moment)
        return _collected(load, processes, progress)
    finally:
        for each in processes.values():
            each.terminate()
            each.join()


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """What is started meanwhile never hears a Ctrl-C, which a terminal sends to all of a group.

    Its parent ends it; by itself it would print where it was.
    """
    resource_tracker.ensure_running()  # starting it later would undo the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _collected(
    load: Load, processes: Mapping[Connection, BaseProcess], progress: Progress
) -> Tally:
    whole, open_pipes = Tally.of(load), list(processes)
    while open_pipes:
        snapshot, tallies = Snapshot(0.0), []
        for pipe in wait(open_pipes):
            assert isinstance(pipe, Connection), "This is a bug."  # noqa: S101  for the type checker
            message = _received(pipe, processes)
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


def _received(pipe: Connection, processes: Mapping[Connection, BaseProcess]) -> object:
    try:
        message = pipe.recv()
    except (EOFError, ConnectionResetError):
        process = processes[pipe]
        process.join(_END_S)
        code = process.exitcode or 0
        why = (
            f"signal {-code}; is memory short?"
            if code < 0
            else f"status {code}; a script that sends from several processes must not do so where "
            "it is only imported: put the call under if __name__ == '__main__':"
        )
        raise WorkerDied(f"a sending process ended without a result, by {why}") from None
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
