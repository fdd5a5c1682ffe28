"""Sends a load, from this process or from several, and sums up what they counted."""

import time

from vaeserve_loadtest.load import Load
from vaeserve_loadtest.loop import Progress, Share, send
from vaeserve_loadtest.report import Report
from vaeserve_loadtest.watch import Watch
from vaeserve_loadtest.workers import send_from_several


def run(
    load: Load, progress: Progress = lambda _: None, *, metrics_address: str | None = None
) -> Report:
    """Send a load and measure it; blocks for warm-up and duration, and until the last answer.

    Args:
        load: what to send. With several workers a script calls this only under
            `if __name__ == "__main__":`, for each process imports it.
        progress: told how the run is going.
        metrics_address: HOST:PORT of the server's /metrics, for its own view of the measured time.

    Raises:
        ValueError: the model does not take this load.
        VaeserveError: the model cannot be reached. Failures of single requests are counted instead.
        OSError: no metrics at that address before the run. Where they fail during it, the report
            has no view of the server, and says so.
        WorkerDied: a sending process ended without a result.
    """
    watch = None if metrics_address is None else Watch(metrics_address, load)
    began = time.perf_counter if watch is None else watch.began
    if load.workers == 1:
        tally = send(load, Share(), began, progress)
    else:
        tally = send_from_several(load, began, progress)
    return Report.of(load, tally, None if watch is None else watch.seen())
