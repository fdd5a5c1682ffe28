"""Runs against a real server on a loopback port."""

import multiprocessing
import threading
import time
from typing import Any

import grpc
import numpy as np
import pytest

from unit.client.scripted_server import Failure, Script
from unit.loadtest.loads import load
from vaeserve import Unavailable
from vaeserve.v1 import arrays, vae_service_pb2 as pb
from vaeserve_loadtest import Load, Report, WorkerDied, loop, runner
from vaeserve_loadtest.loop import Share
from vaeserve_loadtest.tally import Recorder, Snapshot
from vaeserve_loadtest.traffic import Traffic

pytestmark = pytest.mark.alone  # rates and latencies are measured


class Stall:
    """Holds the n-th request, and all that come meanwhile, for a while."""

    def __init__(self, number: int, seconds: float) -> None:
        self._left = number
        self._seconds = seconds
        self._lock = threading.Lock()

    def __call__(self, _: object) -> None:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                time.sleep(self._seconds)


def test_a_stall_of_a_second_shows_in_the_open_loop_and_hides_in_the_closed(
    script: Script,
) -> None:
    script.before = Stall(60, 1.0)
    report = runner.run(load(script, rate=100.0, duration_s=3.0))
    assert report.failed == report.dropped == 0
    assert report.latency is not None
    assert report.latency.max >= 1000
    assert report.latency.p99_9 >= 980
    # The requests that arrive during the stall wait too: a third of all, by 0.5 s on average.
    assert report.latency.p90 >= 350
    assert report.latency.p50 < report.latency.max / 2
    assert report.latency.mean >= 100

    script.before = Stall(60, 1.0)
    # No warm-up: sixty requests may be answered in it.
    closed = runner.run(load(script, concurrency=1, duration_s=3.0, warmup_s=0.0)).latency
    assert closed is not None
    assert closed.max >= 1000  # one request, while the caller asked for nothing else
    assert closed.p99 < 350


async def test_a_late_generator_shows_in_the_latency_too() -> None:
    chosen = Load(address="", model="", rate=200.0, duration_s=0.5, warmup_s=0.0)
    recorder = Recorder(chosen, time.perf_counter())

    async def send(number: int) -> None:
        if number == 10:
            time.sleep(0.3)  # noqa: ASYNC251  holds the event loop, as a busy process would

    await loop._open_loop(chosen, Share(), Traffic([send], lambda _: 0), recorder)
    report = Report.of(chosen, recorder.tally)
    assert report.start_lag_p99_ms is not None
    assert report.start_lag_p99_ms > 200
    assert report.latency is not None
    assert report.latency.p90 > 100


def test_a_closed_loop_asks_as_many_as_its_callers(script: Script) -> None:
    lock, now, most = threading.Lock(), 0, 0

    def count(_: object) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.005)
        with lock:
            now -= 1

    script.before = count
    report = runner.run(load(script, concurrency=3))
    assert most == 3
    assert report.latency is not None
    assert report.latency.p50 >= 5
    assert 20 < report.requests_per_second < 600
    assert report.cpu_share > 0


@pytest.mark.parametrize(
    ("rpc", "kind"),
    [
        ("encode", pb.EncodeRequest),
        ("sample", pb.SampleRequest),
        ("decode", pb.DecodeRequest),
        ("reconstruct", pb.ReconstructRequest),
    ],
)
def test_every_rpc_is_sent_with_its_rows(script: Script, rpc: str, kind: Any) -> None:
    changes = {"rpc": rpc, "rows": 5, "concurrency": 1, "duration_s": 0.1, "warmup_s": 0.0}
    report = runner.run(load(script, **changes))
    assert report.succeeded > 0
    assert report.failed == 0
    assert report.rows_per_second == pytest.approx(5 * report.requests_per_second)
    assert {type(sent) for sent in script.requests[1:]} == {kind}


def test_rows_are_seeded(script: Script) -> None:
    for seed in (1, 1, 2):
        settings = {"seed": seed, "concurrency": 1, "duration_s": 0.05, "warmup_s": 0.0}
        runner.run(load(script, **settings))
    sent = [arrays.from_tensor(request.input) for request in script.sent(pb.EncodeRequest)]
    distinct = np.unique(np.stack(sent), axis=0)
    assert len(distinct) == 2


def test_refusals_are_counted_and_not_retried(script: Script) -> None:
    script.failures.extend(
        [Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL", retry_after=0.01)] * 5
    )
    report = runner.run(load(script, concurrency=1, warmup_s=0.0))
    assert [(e.code, e.reason, e.count) for e in report.errors] == [
        ("RESOURCE_EXHAUSTED", "QUEUE_FULL", 5)
    ]
    assert len(script.sent(pb.EncodeRequest)) == report.requests


def test_the_bound_of_the_open_loop_is_reported(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "MAX_IN_FLIGHT", 3)
    script.before = lambda _: time.sleep(0.2)
    report = runner.run(load(script, rate=100.0, warmup_s=0.0))
    assert report.dropped > 10
    assert report.requests == report.succeeded + report.dropped
    assert any("not sent" in warning for warning in report.warnings)


def test_a_rate_beyond_this_program_ends_in_time(script: Script) -> None:
    began = time.monotonic()
    report = runner.run(load(script, rate=200_000.0, duration_s=0.2, warmup_s=0.0, timeout_s=1.0))
    assert time.monotonic() - began < 15
    assert report.dropped > 0
    assert not report.kept_rate


def test_deadlines_are_failures(script: Script) -> None:
    answer = threading.Event()
    script.before = lambda _: answer.wait(10)
    try:
        report = runner.run(load(script, concurrency=2, timeout_s=0.1, warmup_s=0.0))
    finally:
        answer.set()
    assert report.succeeded == 0
    assert {e.code for e in report.errors} == {"DEADLINE_EXCEEDED"}


def test_more_rows_than_one_request_takes(script: Script) -> None:
    with pytest.raises(ValueError, match="9 rows are more than the 8"):
        runner.run(load(script, concurrency=1, rows=9))


def test_no_server() -> None:
    with pytest.raises(Unavailable):
        runner.run(Load(address="127.0.0.1:1", model="digits", concurrency=1))


def test_progress_goes_from_0_to_1(script: Script) -> None:
    told: list[Snapshot] = []
    report = runner.run(load(script, concurrency=1, warmup_s=0.0), told.append)
    shares = [snapshot.share for snapshot in told]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1, abs=0.01)
    assert sum(snapshot.recent.count for snapshot in told) == pytest.approx(report.succeeded, abs=1)


async def test_a_closed_loop_does_not_spin_on_a_dead_server() -> None:
    chosen = Load(address="", model="", concurrency=2, duration_s=0.5, warmup_s=0.0)
    recorder = Recorder(chosen, time.perf_counter())

    async def send(_: int) -> None:
        raise Unavailable("gone")

    await loop._closed_loop(chosen, Share(), Traffic([send], lambda _: 0), recorder)
    assert 2 <= Report.of(chosen, recorder.tally).failed <= 22


def test_several_processes_share_one_load(script: Script) -> None:
    told: list[Snapshot] = []
    chosen = load(script, rate=200.0, workers=3, duration_s=1.0, rpc="sample")
    report = runner.run(chosen, told.append)
    assert report.failed == report.dropped == 0
    assert report.succeeded == pytest.approx(200, rel=0.3)
    # Every request of the schedule, warm-up included, was sent by one of them.
    seeds = sorted(request.seed for request in script.sent(pb.SampleRequest))
    assert seeds == list(range(len(seeds)))
    assert told[-1].share == pytest.approx(1, abs=0.1)


def test_what_a_process_finds_wrong_is_raised_here(script: Script) -> None:
    with pytest.raises(ValueError, match="9 rows are more than the 8"):
        runner.run(load(script, concurrency=2, workers=2, rows=9))
    with pytest.raises(Unavailable):
        runner.run(Load(address="127.0.0.1:1", model="digits", concurrency=2, workers=2))


def test_a_process_that_dies_is_said(script: Script) -> None:
    others = set(multiprocessing.active_children())  # of tests before this one

    def kill(_: Snapshot) -> None:
        (set(multiprocessing.active_children()) - others).pop().kill()

    with pytest.raises(WorkerDied, match="without a result"):
        runner.run(load(script, concurrency=2, workers=2, duration_s=20.0), kill)
    assert set(multiprocessing.active_children()) <= others
