"""The load tester against the real server."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from support.servers import running_app, series
from vaeserve._cli import main
from vaeserve_loadtest.load import RPCS
from vaeserve_server.app import App
from vaeserve_server.call import Floats, Outputs
from vaeserve_server.onnx_engine import OnnxEngine


def loadtest(app: App, *options: object) -> Result:
    common = ("--model", "digits", "--warmup", "0", *options)
    return CliRunner().invoke(
        main, ["loadtest", f"127.0.0.1:{app.port}", *(str(each) for each in common)]
    )


def encoded(app: App) -> float:
    """Rows that the server says it has encoded."""
    return series(app)['vaeserve_rows_total{graph="encoder",model="digits"}']


@pytest.mark.parametrize("loop", [("--concurrency", "2"), ("--rate", "50")])
@pytest.mark.parametrize("rpc", RPCS)
def test_every_request_is_answered(address: str, rpc: str, loop: tuple[str, str]) -> None:
    common = ("--model", "digits", "--rpc", rpc, "--rows", "3", "--duration", "300ms")
    result = CliRunner().invoke(
        main, ["loadtest", address, *common, "--warmup", "100ms", "--json", *loop]
    )
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(result.stdout)["runs"][0]
    assert report["succeeded"] > 0
    assert report["failed"] == report["dropped"] == 0
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["max"]


@pytest.mark.alone  # what the server counts while the load lasts must be what was sent in it
def test_a_mix_as_its_callers_and_as_the_server_saw_it(repository: Path, tmp_path: Path) -> None:
    files = {kind: tmp_path / f"report.{kind}" for kind in ("json", "csv", "html")}
    options = ("--mix", "encode@2:0.5,decode:0.5", "--duration", "500ms", "--warmup", "0")
    with running_app(repository) as app:
        metrics = f"127.0.0.1:{app.metrics_port}"
        result = CliRunner().invoke(
            main,
            [
                *("loadtest", f"127.0.0.1:{app.port}", "--model", "digits", *options),
                *("--sweep", "rate=60,120", "--metrics", metrics),
                *("--out", str(files["json"])),
                *("--csv", str(files["csv"]), "--html", str(files["html"])),
            ],
        )
    assert result.exit_code == 0, result.output
    for run in json.loads(files["json"].read_text())["runs"]:
        sent = {part["label"]: part["succeeded"] for part in run["parts"]}
        rows = {graph["graph"]: graph["rows"] for graph in run["server"]["graphs"]}
        assert rows == {"encoder": 2 * sent["encode@2"], "decoder": sent["decode"]}
        for graph in run["server"]["graphs"]:
            assert 0 < graph["batches"] <= graph["rows"]
            assert graph["run_ms"] > 0
            assert graph["queue_ms"] >= 0
            assert graph["rejected"] == {}
    assert len(files["csv"].read_text().splitlines()) == 3
    page = files["html"].read_text()
    for heading in ("Latency under load", "Distribution", "60 requests/s", "120 requests/s"):
        assert heading in page


def test_a_run_shows_its_timeline_and_the_server_beside_it(
    repository: Path, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    with running_app(repository) as app:
        common = ("loadtest", f"127.0.0.1:{app.port}", "--model", "digits", "--rate", "50")
        timed = ("--duration", "300ms", "--warmup", "0", "--html", str(page))
        metrics = ("--metrics", f"127.0.0.1:{app.metrics_port}")
        result = CliRunner().invoke(main, [*common, *timed, *metrics])
    assert result.exit_code == 0, result.output
    (line,) = (each for each in result.output.splitlines() if "encoder:" in each)
    assert line.startswith("server      encoder: ")
    text = page.read_text()
    assert line.strip() in text
    assert "<h2>Timeline</h2>" in text
    assert "<h2>Distribution</h2>" in text


@pytest.mark.parametrize(
    "load", [("rate=20:60", "--arrivals", "constant"), ("concurrency=1:3",)], ids=" ".join
)
def test_a_ramp_reports_each_stretch_of_its_way(app: App, load: tuple[str, ...]) -> None:
    before = encoded(app)
    result = loadtest(app, "--ramp", *load, "--duration", "3s", "--json")
    assert result.exit_code == 0, result.output
    (run,) = json.loads(result.stdout)["runs"]
    assert [second["at_s"] for second in run["timeline"]] == [0.5, 1.5, 2.5]
    assert sum(second["succeeded"] for second in run["timeline"]) == pytest.approx(run["succeeded"])
    assert run["requests"] == run["succeeded"] == encoded(app) - before
    for second in run["timeline"]:
        assert (second["p50_ms"] is None) == (second["succeeded"] == 0)
        assert second["p50_ms"] is None or 0 < second["p50_ms"] <= second["p99_ms"]
    if load[0].startswith("rate"):
        # 20 a second at first and 60 at last, as they were due.
        assert [second["succeeded"] for second in run["timeline"]] == [27, 40, 53]


@pytest.mark.alone  # what the server counts while the load lasts must be what was sent in it
def test_a_request_due_at_once_is_in_the_servers_view(app: App) -> None:
    metrics = ("--metrics", f"127.0.0.1:{app.metrics_port}")
    rate = ("--rate", 4, "--arrivals", "constant", "--duration", "1s")
    (run,) = json.loads(loadtest(app, *rate, *metrics, "--json").stdout)["runs"]
    assert [graph["rows"] for graph in run["server"]["graphs"]] == [run["succeeded"]] == [4]


@pytest.fixture
def slow(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server that encodes no more than a hundred rows a second, so that a search ends soon."""

    def run(engine: OnnxEngine, rows: Floats, *, as_levels: bool = False) -> Outputs:
        time.sleep(0.01)
        return real_run(engine, rows, as_levels=as_levels)

    real_run = OnnxEngine.run
    with running_app(repository, max_rows=1, placement="thread") as started:
        monkeypatch.setattr(OnnxEngine, "run", run)  # loading measures runs
        yield started


@pytest.mark.alone  # how late the load generator is counts, too
def test_find_max_ends_at_a_rate_that_held_the_level(slow: App, tmp_path: Path) -> None:
    before = encoded(slow)
    search = ("--find-max", "--slo", "p50=100ms", "--duration", "300ms")
    result = loadtest(slow, *search, "--json", "--out", tmp_path / "found.json")
    assert result.exit_code == 0, result.output
    written = json.loads(result.stdout)
    assert written == json.loads((tmp_path / "found.json").read_text())
    found, runs = written["find_max"], written["runs"]

    held = [run for run in runs if run["load"]["rate"] == found["rate"]][-3:]
    assert held == runs[-3:], "a search ends with the runs that confirm its rate"
    for run in held:
        assert run["latency_ms"]["p50"] <= 100
        assert 2 * run["succeeded"] >= run["requests"] > 0
    assert sum(run["requests"] for run in held) == found["requests"]
    assert 0 <= found["slow"] <= found["requests"] / 2
    assert found["slo"] == "p50=100ms"

    assert found["rate"] < found["failed_at"]
    broken = [run for run in runs if run["load"]["rate"] == found["failed_at"]]
    assert any(run["latency_ms"]["p50"] > 100 or run["failed"] for run in broken)
    assert (found["confidence"] is None) == (found["caveat"] is not None)
    # The probe is no run of the search; all others are in its report.
    assert 0 < sum(run["succeeded"] for run in runs) < encoded(slow) - before


def test_compare_passes_the_same_load_and_not_half_the_speed(app: App, tmp_path: Path) -> None:
    load = ("--rate", 20, "--arrivals", "constant", "--duration", "1500ms")
    old = tmp_path / "old.json"
    before = encoded(app)
    assert loadtest(app, *load, "--out", old).exit_code == 0
    # Latencies vary as they like on a busy machine: those before are made very slow.
    report = json.loads(old.read_text())
    (run,) = report["runs"]
    assert run["succeeded"] == encoded(app) - before == 30
    report["runs"][0]["latency_ms"] = dict.fromkeys(run["latency_ms"], 1e6)
    old.write_text(json.dumps(report))
    same = loadtest(app, *load, "--compare", old, "--threshold", 1.8)
    assert same.exit_code == 0, same.output
    assert "encode@1:1, 20 requests/s" in same.output
    assert "worse" not in same.output

    run["requests_per_second"] *= 2
    old.write_text(json.dumps(report))
    twice = loadtest(app, *load, "--compare", old, "--threshold", 1.8)
    assert twice.exit_code == 3, twice.output
    (worse,) = [line.split()[0] for line in twice.output.splitlines() if "worse than 1.8x" in line]
    assert worse == "requests/s"
