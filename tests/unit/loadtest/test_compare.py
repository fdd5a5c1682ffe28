"""What of two reports is compared, and what is called worse."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vaeserve import VaeserveError
from vaeserve_loadtest import Found, Load, Part, Report, Slo
from vaeserve_loadtest.compare import Comparison, compare, comparison_table, read_older
from vaeserve_loadtest.files import to_json
from vaeserve_loadtest.tally import Recorder

SLO = Slo.parse("p99=20ms")
REQUESTS = 1000


def load(**changes: Any) -> Load:
    settings: dict[str, Any] = {"rate": 100.0, "duration_s": 10.0, "warmup_s": 0.0} | changes
    return Load(address="127.0.0.1:1", model="digits", **settings)


def report(
    chosen: Load,
    *,
    lost: int = 0,
    dropped: bool = False,
    latency_s: float = 0.002,
    cpu_share: float = 0.2,
) -> Report:
    """Of a run that lost some of its thousand requests."""
    recorder = Recorder(chosen, began=0)
    for number in range(REQUESTS):
        intended = number * chosen.duration_s / REQUESTS
        if number >= lost:
            recorder.succeeded(0, intended, intended, intended + latency_s)
        elif dropped:
            recorder.dropped(intended)
        else:
            recorder.failed(0, intended, VaeserveError("broken", code="INTERNAL"))
    recorder.tally.cpu_shares = [cpu_share]
    return Report.of(chosen, recorder.tally)


def written(*reports: Report, found: Found | None = None) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads(json.dumps(to_json(reports, found)))
    return whole


def older(folder: Path, whole: object) -> Path:
    path = folder / "older.json"
    path.write_text(json.dumps(whole))
    return path


def compared(folder: Path, before: Report, now: Report) -> Comparison:
    sides = read_older(older(folder, written(before)), [now.load], None)
    (comparison,) = compare(sides, written(now))
    return comparison


def marked(comparison: Comparison, threshold: float) -> list[str]:
    lines = comparison_table([comparison], threshold).splitlines()[2:]
    return [line.split()[0] for line in lines if "worse" in line]


@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize(
    ("before", "now", "worse"),
    [
        (0, 150, True),
        (0, 11, True),
        (0, 10, False),
        (200, 211, True),
        (200, 205, False),
        (200, 0, False),
    ],
)
def test_requests_that_were_lost_are_worse_than_none(
    tmp_path: Path, before: int, now: int, worse: bool, dropped: bool
) -> None:
    sides = report(load(), lost=before), report(load(), lost=now, dropped=dropped)
    found = compared(tmp_path, *sides)
    # Answers that are missing do not make the rate of the others 1.3 times smaller.
    assert marked(found, 1.3) == (["failed,"] if worse else [])
    assert found.worse_than(1.3) is worse


def test_latencies_and_answers_are_compared_by_their_ratio(tmp_path: Path) -> None:
    slow = compared(tmp_path, report(load()), report(load(), latency_s=0.003))
    assert marked(slow, 1.4) == ["p50/ms", "p90/ms", "p99/ms", "p99.9/ms"]
    assert not slow.worse_than(1.6)
    fewer = compared(tmp_path, report(load()), report(load(), lost=400))
    assert marked(fewer, 1.5) == ["requests/s", "failed,"]


@pytest.mark.parametrize(
    ("before", "now", "when"), [(0.95, 0.2, "before"), (0.2, 0.95, "now"), (1, 1, "before and now")]
)
def test_what_the_generator_limited_is_marked(
    tmp_path: Path, before: float, now: float, when: str
) -> None:
    sides = report(load(), cpu_share=before), report(load(), cpu_share=now)
    table = comparison_table([compared(tmp_path, *sides)], 1.2)
    assert f": the load generator's limit {when}, too little of the server\n" in table
    plain = comparison_table([compared(tmp_path, report(load()), report(load()))], 1.2)
    assert "generator" not in plain


@pytest.mark.parametrize(
    "other",
    [
        {"rate": 101.0},
        {"rate": None, "concurrency": 100},
        {"ramp_from": 1.0},
        {"arrivals": "constant"},
        {"mix": (Part("encode", 2),)},
    ],
    ids=str,
)
def test_another_load_is_not_compared(tmp_path: Path, other: dict[str, Any]) -> None:
    path = older(tmp_path, written(report(load())))
    with pytest.raises(ValueError, match=r"older\.json: no run of the older report has the load"):
        read_older(path, [load(**other)], None)
    assert read_older(path, [load(**other), replace(load(seed=5), address="elsewhere")], None)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", "7", '{"runs": 7}', '{"runs": []}', '{"runs": [{"load": {}}]}'],
)
def test_what_is_no_report_is_told_with_its_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "older.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"older\.json: "):
        read_older(path, [load()], None)


def test_a_report_that_lacks_a_figure_is_told_with_the_figure(tmp_path: Path) -> None:
    whole = written(report(load()))
    for key in ("requests_per_second", "latency_ms", "dropped", "generator_limited"):
        run = {name: value for name, value in whole["runs"][0].items() if name != key}
        with pytest.raises(ValueError, match=rf"lacks '{key}'; measure it again"):
            read_older(older(tmp_path, {"runs": [run]}), [load()], None)


def searched(rate: float | None, *, slo: Slo = SLO, cpu_share: float = 0.2) -> dict[str, Any]:
    """A search with a run at the rate it found."""
    run = report(load(rate=rate or 50.0), cpu_share=cpu_share)
    return written(run, found=Found(slo, rate=rate, failed_at=500.0, trials=[run]))


@pytest.mark.parametrize(("now", "worse"), [(400.0, False), (310.0, False), (290.0, True)])
def test_of_a_search_the_rate_is_compared(tmp_path: Path, now: float, worse: bool) -> None:
    sides = read_older(older(tmp_path, searched(400.0)), [load(rate=7.0)], SLO)
    (comparison,) = compare(sides, searched(now))
    table = comparison_table([comparison], 1.3)
    assert "highest rate that holds p99=20ms, encode@1:1, poisson arrivals\n" in table
    assert table.splitlines()[-1].split()[:3] == ["requests/s", "400.000", f"{now:.3f}"]
    assert comparison.worse_than(1.3) is worse
    (limited,) = compare(sides, searched(now, cpu_share=1.0))
    assert "the load generator's limit now" in comparison_table([limited], 1.3)


def test_a_search_that_found_nothing_is_compared_with_nothing(tmp_path: Path) -> None:
    sides = read_older(older(tmp_path, searched(400.0)), [load()], SLO)
    assert compare(sides, searched(None)) == []


def test_an_older_report_without_this_search_is_told(tmp_path: Path) -> None:
    other = searched(400.0, slo=Slo.parse("p90=20ms"))
    for whole in (written(report(load())), searched(None), other):
        with pytest.raises(ValueError, match="the older report found no highest rate that holds"):
            read_older(older(tmp_path, whole), [load()], SLO)
    # Its runs can be compared with runs.
    assert compare(
        read_older(older(tmp_path, other), [load(rate=400.0)], None),
        written(report(load(rate=400.0))),
    )
