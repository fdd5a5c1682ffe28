"""Sends one process's share of a load on one event loop, and counts what happens."""

import asyncio
import selectors
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from vaeserve import AsyncClient, Unavailable, VaeserveError
from vaeserve_loadtest.load import Load
from vaeserve_loadtest.schedule import arrivals, caller_starts
from vaeserve_loadtest.tally import Recorder, Snapshot, Tally
from vaeserve_loadtest.traffic import Traffic, traffic

MAX_IN_FLIGHT = 10_000
"""Requests of an open loop that may be unanswered at once; more are dropped, and reported."""

_SNAPSHOT_S = 0.25
_UNAVAILABLE_PAUSE_S = 0.05  # a closed loop would count refusals as fast as it can spin
_OVERTIME_S = 1.0  # requests that could not be started this long after the end are dropped

Progress = Callable[[Snapshot], None]
"""Told, a few times a second, how the run is going."""


@dataclass(frozen=True, slots=True)
class Share:
    """Which of a load's requests a process sends: every `of`-th, from `number` on."""

    number: int = 0
    of: int = 1


def send(load: Load, share: Share, began: Callable[[], float], progress: Progress) -> Tally:
    """Send a share of a load; blocks until the last answer.

    Args:
        load: what to send, by all processes together.
        share: this one's.
        began: called once the requests are made and the model was found; returns the moment of
            time.perf_counter at which the warm-up begins.
        progress: told how it is going.

    Raises:
        ValueError: the model does not take this load.
        VaeserveError: the model cannot be reached. Failures of single requests are counted instead.
    """
    # epoll waits whole milliseconds, which would start requests late; select waits microseconds.
    with asyncio.Runner(
        loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())
    ) as runner:
        return runner.run(_send(load, share, began, progress))


async def _send(load: Load, share: Share, began: Callable[[], float], progress: Progress) -> Tally:
    # No retries: each would hide a refusal and add load of its own.
    async with AsyncClient(
        load.address, timeout=load.timeout_s, retries=0, tls=load.tls, token=load.token
    ) as client:
        model = client.model(load.model)
        requests = traffic(load, model, await model.info())
        recorder = Recorder(load, began())
        async with _watched(recorder, progress):
            loop = _closed_loop if load.rate is None else _open_loop
            await loop(load, share, requests, recorder)
        return recorder.tally


async def _closed_loop(load: Load, share: Share, requests: Traffic, recorder: Recorder) -> None:
    """Each caller sends again once it has its answer."""
    number = share.number

    async def call_in_turn(begin: float) -> None:
        nonlocal number
        await asyncio.sleep(max(0.0, begin - time.perf_counter()))
        while (now := time.perf_counter()) < recorder.end:
            number += share.of
            if isinstance(await _one(requests, number, now, recorder), Unavailable):
                await asyncio.sleep(_UNAVAILABLE_PAUSE_S)

    began = recorder.start - load.warmup_s
    starts = (began + caller_starts(load))[share.number :: share.of].tolist()
    await asyncio.gather(*map(call_in_turn, starts))


async def _open_loop(load: Load, share: Share, requests: Traffic, recorder: Recorder) -> None:
    """Start each request at its moment, however many are unanswered."""
    under_way: set[asyncio.Task[VaeserveError | None]] = set()
    began = recorder.start - load.warmup_s
    moments = (began + arrivals(load))[share.number :: share.of].tolist()
    for index, intended in enumerate(moments):
        await asyncio.sleep(max(0.0, intended - time.perf_counter()))
        late = time.perf_counter() > recorder.end + _OVERTIME_S
        if late or len(under_way) >= MAX_IN_FLIGHT // share.of:
            recorder.dropped(intended)
            continue
        number = share.number + index * share.of
        task = asyncio.create_task(_one(requests, number, intended, recorder))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)


async def _one(
    requests: Traffic, number: int, intended: float, recorder: Recorder
) -> VaeserveError | None:
    """Send a request and record its end; returns how it failed."""
    part = requests.part_of(number)
    sent = time.perf_counter()
    try:
        await requests.senders[part](number)
    except VaeserveError as exc:
        recorder.failed(part, intended, exc)
        return exc
    recorder.succeeded(part, intended, sent, time.perf_counter())
    return None


@asynccontextmanager
async def _watched(recorder: Recorder, progress: Progress) -> AsyncIterator[None]:
    """Tell the progress meanwhile, and note the share of a core used in the measured time."""
    watch = asyncio.create_task(_watch(recorder, progress))
    yield
    recorder.tally.cpu_shares.append(await watch)


async def _watch(recorder: Recorder, progress: Progress) -> float:
    await _tick_until(recorder.start, recorder, progress)
    wall, cpu = time.perf_counter(), time.process_time()
    await _tick_until(recorder.end, recorder, progress)
    return (time.process_time() - cpu) / (time.perf_counter() - wall)


async def _tick_until(moment: float, recorder: Recorder, progress: Progress) -> None:
    while (left := moment - time.perf_counter()) > 0:
        await asyncio.sleep(min(left, _SNAPSHOT_S))
        progress(recorder.snapshot(time.perf_counter()))
