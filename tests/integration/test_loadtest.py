"""The load tester against the real server."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from support.servers import running_app
from vaeserve._cli import main
from vaeserve_loadtest.load import RPCS


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
