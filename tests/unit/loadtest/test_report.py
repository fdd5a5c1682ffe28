"""Which requests count, percentiles, and the warnings."""

import json
import pickle
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from vaeserve import Overloaded, Unavailable, VaeserveError
from vaeserve_loadtest import Load, Part, Report, report_table
from vaeserve_loadtest.latencies import Latencies
from vaeserve_loadtest.live import shown
from vaeserve_loadtest.tally import Recorder, Snapshot


def load(**changes: Any) -> Load:
    chosen: dict[str, Any] = {"rate": 100.0, "duration_s": 10.0, "warmup_s": 2.0} | changes
    part = Part(chosen.pop("rpc", "encode"), chosen.pop("rows", 1))
    return Load(address="127.0.0.1:1", model="digits", mix=(part,), **chosen)


class Counter:
    """A recorder of one kind of requests, and its report."""

    def __init__(self, load: Load, began: float) -> None:
        self._load = load
        self._recorder = Recorder(load, began)

    def succeeded(self, intended: float, sent: float, done: float) -> None:
        self._recorder.succeeded(0, intended, sent, done)

    def failed(self, intended: float, error: VaeserveError) -> None:
        self._recorder.failed(0, intended, error)

    def dropped(self, intended: float) -> None:
        self._recorder.dropped(intended)

    def report(self, cpu_share: float) -> Report:
        self._recorder.tally.cpu_shares = [cpu_share]
        return Report.of(self._load, self._recorder.tally)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(1e-6, 100), min_size=1, max_size=300))
def test_percentiles_are_those_of_numpy(latencies: list[float]) -> None:
    recorder = Counter(load(), began=0)
    for latency in latencies:
        recorder.succeeded(5, 5, 5 + latency)
    found = recorder.report(cpu_share=0).latency
    assert found is not None
    ms = np.array(latencies) * 1e3
    for name, percent in {"p50": 50, "p90": 90, "p99": 99, "p99_9": 99.9}.items():
        expected = np.percentile(ms, percent, method="inverted_cdf")
        assert getattr(found, name) == pytest.approx(expected, rel=1.1e-3, abs=1.1e-3)
    assert found.max == pytest.approx(ms.max())
    assert found.mean == pytest.approx(ms.mean())


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.floats(1e-6, 100), max_size=100), min_size=2, max_size=4).filter(any))
def test_what_processes_recorded_adds_up(parts: list[list[float]]) -> None:
    whole, summed = Latencies(), Latencies()
    for part in parts:
        own = Latencies()
        for latency in part:
            own.record(latency)
            whole.record(latency)
        summed.add(pickle.loads(pickle.dumps(own)))  # noqa: S301  as a process hands it back
    assert summed.count == whole.count
    assert summed.max_s == whole.max_s
    for percent in (0.1, 50, 99, 99.9, 100):
        assert summed.percentile_ms(percent) == whole.percentile_ms(percent)


def test_progress_is_a_line_that_moves_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    half = Snapshot(0.5, failed=2)
    half.recent.record(0.25)
    with shown("8 callers") as tell:
        tell(half)
    assert capsys.readouterr().err == ""  # no terminal
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with shown("8 callers") as tell:
        tell(Snapshot(0.0))
        tell(half)
    first, second, end = capsys.readouterr().err.split("\r")[1:]
    assert first.startswith(f"8 callers  [{'-' * 24}]  no answers yet")
    assert second.startswith(f"8 callers  [{'#' * 12}{'-' * 12}]  p50 250.00  p99 250.00")
    assert "2 failed" in second
    assert end == "\x1b[K"


def test_only_what_starts_after_the_warm_up_is_measured() -> None:
    recorder = Counter(load(rows=3), began=100)
    recorder.succeeded(101.9, 101.9, 102.5)  # warm-up, answered within the measured time
    recorder.succeeded(102.0, 102.0, 102.1)
    recorder.succeeded(111.9, 111.9, 112.4)  # measured, answered after the end
    recorder.failed(101.0, Overloaded("full"))
    recorder.failed(112.0, Overloaded("full"))
    recorder.dropped(101.0)
    report = recorder.report(cpu_share=0.5)
    assert (report.succeeded, report.failed, report.dropped) == (2, 0, 0)
    assert report.requests_per_second == pytest.approx(0.2)
    assert report.rows_per_second == pytest.approx(0.6)
    assert report.latency is not None
    assert report.latency.max == pytest.approx(500)


def test_latency_counts_from_the_intended_start() -> None:
    recorder = Counter(load(), began=0)
    recorder.succeeded(5.0, 5.3, 5.4)
    report = recorder.report(cpu_share=0)
    assert report.latency is not None
    assert report.latency.p50 == pytest.approx(400, rel=1e-3)
    assert report.start_lag_p99_ms == pytest.approx(300, rel=1e-3)


def test_errors_are_counted_by_code_and_reason() -> None:
    recorder = Counter(load(), began=0)
    for _ in range(3):
        recorder.failed(5, Overloaded("full", reason="QUEUE_FULL"))
    recorder.failed(5, Unavailable("gone"))
    report = recorder.report(cpu_share=0)
    assert [(e.code, e.reason, e.count) for e in report.errors] == [
        ("RESOURCE_EXHAUSTED", "QUEUE_FULL", 3),
        ("UNAVAILABLE", "", 1),
    ]
    assert (report.failed, report.latency, report.start_lag_p99_ms) == (4, None, None)
    assert "4 of 4 requests failed" in report.warnings[0]
    assert "error       3 x RESOURCE_EXHAUSTED QUEUE_FULL" in report_table(report)


def test_a_rate_that_was_not_kept_is_said() -> None:
    slow, fast = Counter(load(), began=0), Counter(load(), began=0)
    for number in range(1000):
        intended = 2 + number / 100
        slow.succeeded(intended, intended, 2 + number / 50)
        fast.succeeded(intended, intended, intended + 0.01)
    assert fast.report(cpu_share=0).warnings == ()
    report = slow.report(cpu_share=0)
    assert not report.kept_rate
    assert "50.0 requests/s answered of 100.0" in report.warnings[0]


def test_a_busy_generator_and_dropped_requests_are_said() -> None:
    recorder = Counter(load(rate=None, concurrency=4), began=0)
    recorder.dropped(5)
    dropped, busy = recorder.report(cpu_share=0.95).warnings
    assert dropped.startswith("1 request not sent: ")
    assert "0.95 of its core" in busy


def test_json_has_units_and_everything() -> None:
    recorder = Counter(load(), began=0)
    recorder.succeeded(5, 5, 5.25)
    fields = json.loads(json.dumps(recorder.report(cpu_share=0.25).to_json()))
    assert fields["latency_ms"]["p99_9"] == pytest.approx(250, rel=1e-3)
    assert fields["load"]["rate"] == fields["target_requests_per_second"] == 100
    assert fields["cpu_share"] == 0.25
    assert fields["kept_rate"] is True
    assert fields["requests"] == 1


def test_a_closed_loop_has_no_start_lag() -> None:
    recorder = Counter(load(rate=None, concurrency=1), began=0)
    recorder.succeeded(5, 5, 5.25)
    report = recorder.report(cpu_share=0)
    assert report.start_lag_p99_ms is None
    assert "start lag" not in report_table(report)


@pytest.mark.parametrize(
    "changes",
    [
        {"rate": None},
        {"concurrency": 1},
        {"rate": 0},
        {"rows": 0},
        {"duration_s": 0},
        {"warmup_s": -1},
        {"rpc": "train"},
    ],
)
def test_loads_that_mean_nothing(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"concurrency|rpc|duration"):
        load(**changes)


@pytest.mark.parametrize("name", ["rate", "duration_s", "warmup_s", "timeout_s"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_loads_are_finite(name: str, value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        load(**{name: value})


def test_requests_that_start_late_are_said() -> None:
    late, prompt = Counter(load(), began=0), Counter(load(), began=0)
    for number in range(1000):
        intended = 2 + number / 100
        late.succeeded(intended, intended + 0.08, intended + 0.1)
        prompt.succeeded(intended, intended + 0.01, intended + 0.1)
    (warning,) = late.report(cpu_share=0).warnings
    assert "late (p99): the load generator is the limit" in warning
    assert prompt.report(cpu_share=0).warnings == ()
