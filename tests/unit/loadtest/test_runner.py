"""Runs against a real server on a loopback port."""

import errno
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from click.testing import CliRunner

from unit.client.scripted_server import Failure, Script, serving
from vaeserve import Unavailable
from vaeserve.v1 import arrays, vae_service_pb2 as pb
from vaeserve_loadtest import Load, runner
from vaeserve_loadtest.cli import loadtest
from vaeserve_loadtest.report import Recorder


@pytest.fixture
def script() -> Iterator[Script]:
    with serving(Script()) as running:
        yield running


def load(script: Script, **changes: Any) -> Load:
    settings: dict[str, Any] = {"duration_s": 0.4, "warmup_s": 0.1} | changes
    return Load(address=script.address, model="digits", **settings)


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


def test_a_stalled_server_shows_in_the_tail_of_the_open_loop(script: Script) -> None:
    script.before = Stall(60, 0.5)
    report = runner.run(load(script, rate=100.0, duration_s=2.0))
    assert report.failed == report.dropped == 0
    assert report.latency is not None
    assert report.latency.max >= 500
    assert report.latency.p99_9 >= 490
    # The requests that arrive during the stall wait too: a quarter of all, by 0.25 s on average.
    assert report.latency.p90 >= 150
    assert report.latency.p50 < 150
    assert report.latency.mean >= 40


async def test_a_late_generator_shows_in_the_latency_too() -> None:
    chosen = Load(address="", model="", rate=200.0, duration_s=0.5, warmup_s=0.0)
    recorder = Recorder(chosen, time.perf_counter())

    async def send(number: int) -> None:
        if number == 10:
            time.sleep(0.3)  # noqa: ASYNC251  holds the event loop, as a busy process would

    await runner._open_loop(chosen, send, recorder)
    report = recorder.report(cpu_share=0)
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
    monkeypatch.setattr(runner, "MAX_IN_FLIGHT", 3)
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
    shares: list[float] = []
    runner.run(load(script, concurrency=1), shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1


def command(*arguments: object) -> Any:
    return CliRunner().invoke(loadtest, [str(argument) for argument in arguments])


def test_command_writes_a_table_json_and_a_file(script: Script, tmp_path: Path) -> None:
    common = (script.address, "--model", "digits", "--duration", "200ms", "--warmup", "0")
    table = command(*common, "--concurrency", 2, "--rpc", "sample", "--rows", 4)
    assert table.exit_code == 0, table.output
    assert table.output.startswith("sample, 4 rows a request, 2 callers, 0.2 s after 0 s warm-up")
    assert " p99.9 " in table.output
    written = command(*common, "--rate", 50, "--json", "--out", tmp_path / "report.json")
    assert json.loads(written.stdout)["load"]["rate"] == 50
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(written.stdout)


def test_command_fails_when_every_request_did(script: Script) -> None:
    script.failures.extend([Failure(grpc.StatusCode.INTERNAL, "INTERNAL")] * 10_000)
    common = (script.address, "--model", "digits", "--duration", "100ms", "--warmup", "0")
    result = command(*common, "--concurrency", 1)
    assert result.exit_code == 1
    assert "INTERNAL INTERNAL" in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--concurrency", 1, "--rate", 1),
        ("--concurrency", 1, "--duration", "soon"),
        ("--concurrency", 1, "--duration", "5h"),
        ("--concurrency", 1, "--rows", 99),
    ],
)
def test_command_line_mistakes_are_usage_errors(script: Script, arguments: tuple[Any]) -> None:
    assert command(script.address, "--model", "digits", *arguments).exit_code == 2


@pytest.mark.parametrize("option", ["--rate", "--duration", "--warmup", "--timeout"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_figures_that_are_not_finite_are_usage_errors(
    script: Script, option: str, value: str
) -> None:
    loop = () if option == "--rate" else ("--concurrency", 1)
    result = command(script.address, "--model", "digits", *loop, option, value)
    assert result.exit_code == 2
    assert "finite" in result.output


def test_a_server_without_a_row_limit() -> None:
    class Limitless(Script):
        def _check_rows(self, rows: int, context: Any) -> None:
            pass

    with serving(Limitless(max_rows=0)) as script:
        report = runner.run(load(script, concurrency=1, rows=20, duration_s=0.1))
    assert report.succeeded > 0


def test_a_report_that_cannot_be_written_is_still_shown(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> object:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    common = (script.address, "--model", "digits", "--duration", "100ms", "--warmup", "0")
    result = command(*common, "--concurrency", 1, "--out", tmp_path / "r.json")
    assert result.exit_code == 1
    assert "throughput" in result.stdout
    assert result.stderr == (
        f"Error: {tmp_path / 'r.json'} cannot be written: No space left on device\n"
    )


async def test_a_closed_loop_does_not_spin_on_a_dead_server() -> None:
    chosen = Load(address="", model="", concurrency=2, duration_s=0.5, warmup_s=0.0)
    recorder = Recorder(chosen, time.perf_counter())

    async def send(_: int) -> None:
        raise Unavailable("gone")

    await runner._closed_loop(chosen, send, recorder)
    assert 2 <= recorder.report(cpu_share=0).failed <= 22


def test_no_request_due_is_no_failure(script: Script) -> None:
    common = (script.address, "--model", "digits", "--duration", "50ms", "--warmup", "0")
    result = command(*common, "--rate", 0.01)
    assert result.exit_code == 0
    assert "no request was due in the measured time" in result.output


def test_help_says_that_a_loop_is_required() -> None:
    assert "One of --concurrency and --rate is required" in command("--help").output


def test_samples_differ_by_their_seed(script: Script) -> None:
    runner.run(load(script, rpc="sample", concurrency=2, duration_s=0.1, seed=5))
    seeds = [request.seed for request in script.sent(pb.SampleRequest)]
    assert len(seeds) == len(set(seeds)) > 1
    assert min(seeds) >= 5
