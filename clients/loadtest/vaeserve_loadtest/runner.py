"""Sends a load on one event loop and measures it."""

import asyncio
import selectors
import time
from collections.abc import Callable

from vaeserve import AsyncClient, Unavailable, VaeserveError
from vaeserve_loadtest.load import Load, Send, requests
from vaeserve_loadtest.report import Recorder, Report
from vaeserve_loadtest.schedule import poisson_arrivals

MAX_IN_FLIGHT = 10_000
"""Requests of an open loop that may be unanswered at once; more are dropped, and reported."""

_PROGRESS_S = 0.2
_UNAVAILABLE_PAUSE_S = 0.05  # a closed loop would count refusals as fast as it can spin
_OVERTIME_S = 1.0  # requests that could not be started this long after the end are dropped

Progress = Callable[[float], None]
"""Told, several times a second, how much of the run has passed: 0 .. 1."""


def run(load: Load, progress: Progress = lambda _: None) -> Report:
    """Send a load and measure it; blocks for warm-up and duration, and until the last answer.

    Args:
        load: what to send.
        progress: told how far the run is.

    Raises:
        ValueError: the model does not take this load.
        VaeserveError: the model cannot be reached. Failures of single requests are counted instead.
    """
    # epoll waits whole milliseconds, which would start requests late; select waits microseconds.
    with asyncio.Runner(
        loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())
    ) as runner:
        return runner.run(_measure(load, progress))


async def _measure(load: Load, progress: Progress) -> Report:
    # No retries: each would hide a refusal and add load of its own.
    async with AsyncClient(load.address, timeout=load.timeout_s, retries=0) as client:
        model = client.model(load.model)
        send = requests(load, model, await model.info())
        recorder = Recorder(load, time.perf_counter())
        watch = asyncio.create_task(_watch(recorder, load, progress))
        loop = _closed_loop if load.rate is None else _open_loop
        await loop(load, send, recorder)
        return recorder.report(cpu_share=await watch)


async def _closed_loop(load: Load, send: Send, recorder: Recorder) -> None:
    """Each caller sends again once it has its answer."""
    number = 0

    async def call_in_turn() -> None:
        nonlocal number
        while (now := time.perf_counter()) < recorder.end:
            number += 1
            if isinstance(await _one(send, number, now, recorder), Unavailable):
                await asyncio.sleep(_UNAVAILABLE_PAUSE_S)

    await asyncio.gather(*[call_in_turn() for _ in range(load.concurrency or 0)])


async def _open_loop(load: Load, send: Send, recorder: Recorder) -> None:
    """Start each request at its moment, however many are unanswered."""
    assert load.rate is not None, "This is a bug."  # noqa: S101  for the type checker
    began = recorder.start - load.warmup_s
    under_way: set[asyncio.Task[VaeserveError | None]] = set()
    arrivals = poisson_arrivals(load.rate, load.warmup_s + load.duration_s, load.seed)
    for number, offset in enumerate(arrivals.tolist()):
        intended = began + offset
        await asyncio.sleep(max(0.0, intended - time.perf_counter()))
        late = time.perf_counter() > recorder.end + _OVERTIME_S
        if late or len(under_way) >= MAX_IN_FLIGHT:
            recorder.dropped(intended)
            continue
        task = asyncio.create_task(_one(send, number, intended, recorder))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)


async def _one(
    send: Send, number: int, intended: float, recorder: Recorder
) -> VaeserveError | None:
    """Send a request and record its end; returns how it failed."""
    sent = time.perf_counter()
    try:
        await send(number)
    except VaeserveError as exc:
        recorder.failed(intended, exc)
        return exc
    recorder.succeeded(intended, sent, time.perf_counter())
    return None


async def _watch(recorder: Recorder, load: Load, progress: Progress) -> float:
    """Tell the progress, and return the share of a core used in the measured time."""
    await _tick_until(recorder.start, recorder, load, progress)
    wall, cpu = time.perf_counter(), time.process_time()
    await _tick_until(recorder.end, recorder, load, progress)
    return (time.process_time() - cpu) / (time.perf_counter() - wall)


async def _tick_until(moment: float, recorder: Recorder, load: Load, progress: Progress) -> None:
    length = load.warmup_s + load.duration_s
    while (left := moment - time.perf_counter()) > 0:
        await asyncio.sleep(min(left, _PROGRESS_S))
        progress(min(1.0, 1 - (recorder.end - time.perf_counter()) / length))
