"""Sweeps and searches: the seeds of their runs, and what is kept of those that end early."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from unit.client.command_line import vaeserve
from unit.client.scripted_server import Failure, Script, serving
from vaeserve import Unavailable
from vaeserve.v1 import vae_service_pb2 as pb
from vaeserve_loadtest import Load, Report, Slo, WorkerDied
from vaeserve_loadtest.measuring import Measured, NothingAnsweredError, measured
from vaeserve_loadtest.schedule import arrivals
from vaeserve_loadtest.tally import Recorder

SLO = Slo.parse("p90=20ms")


def load(**changes: Any) -> Load:
    settings: dict[str, Any] = {"concurrency": 4, "duration_s": 3.0, "warmup_s": 0.0} | changes
    return Load(address="127.0.0.1:1", model="digits", **settings)


def answered(chosen: Load, most: float = 100.0) -> Report:
    """Of a server that answers so many a second, and is slow as soon as it is asked for more."""
    recorder = Recorder(chosen, began=0)
    rate = most if chosen.rate is None else chosen.rate
    latency = 0.01 if rate <= most else 0.1
    for number in range(int(rate * chosen.duration_s * 0.99)):
        intended = number / rate
        recorder.succeeded(0, intended, intended, intended + latency)
    return Report.of(chosen, recorder.tally)


def searched(seed: int) -> Measured:
    return measured([load(seed=seed)], SLO, answered)


def test_no_two_runs_of_a_search_replay_the_same_arrivals() -> None:
    found = searched(seed=1).found
    assert found is not None
    confirming = [each.load for each in found.trials if each.load.rate == found.rate][-3:]
    first, second, third = (arrivals(each) for each in confirming)
    for one, other in ((first, second), (first, third), (second, third)):
        assert not np.array_equal(one[:20], other[:20])
    seeds = [each.load.seed for each in found.trials]
    assert len(set(seeds)) == len(seeds)


def test_a_search_is_reproduced_by_its_seed() -> None:
    runs = [[each.load for each in searched(seed).reports] for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert not {each.seed for each in runs[0]} & {each.seed for each in runs[2]}


def test_the_probe_is_no_run_of_the_search() -> None:
    whole = searched(seed=1)
    assert whole.found is not None
    assert whole.reports == whole.found.trials
    assert all(each.load.rate for each in whole.reports)


def test_a_search_below_nothing() -> None:
    with pytest.raises(NothingAnsweredError, match="answered nothing"):
        measured([load()], SLO, lambda chosen: answered(chosen, most=0.0))


ENDS = [Unavailable("gone"), OSError("no metrics"), WorkerDied("killed"), KeyboardInterrupt()]


@pytest.mark.parametrize("end", ENDS, ids=repr)
def test_runs_that_were_finished_are_kept(end: BaseException) -> None:
    def ending(after: int) -> Any:
        left = iter(range(after))

        def measure(chosen: Load) -> Report:
            if next(left, None) is None:
                raise end
            return answered(chosen)

        return measure

    loads = [load(concurrency=callers) for callers in (1, 2, 3)]
    swept = measured(loads, None, ending(2))
    assert [each.load.concurrency for each in swept.reports] == [1, 2]
    assert swept.stopped is end
    searched = measured([load()], SLO, ending(4))
    assert len(searched.reports) == 3  # and the probe
    assert (searched.found, searched.stopped) == (None, end)
    for slo, after in ((None, 0), (SLO, 0), (SLO, 1)):
        with pytest.raises(type(end)):
            measured(loads, slo, ending(after))


class Dies(Script):
    """Is not there any more when the third run asks for the model."""

    asked = 0

    def GetModel(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.asked += 1
        if self.asked == 3:
            context.abort(grpc.StatusCode.UNAVAILABLE, "draining")
        return super().GetModel(request, context)


@pytest.fixture
def dying() -> Iterator[Script]:
    with serving(Dies()) as script:
        yield script


def test_a_sweep_whose_server_leaves_prints_and_writes_what_it_has(
    dying: Script, tmp_path: Path
) -> None:
    out, lines, page = (tmp_path / name for name in ("out.json", "runs.csv", "page.html"))
    result = vaeserve(
        *("loadtest", dying.address, "--model", "digits", "--sweep", "concurrency=1,2,4"),
        *("--duration", "200ms", "--warmup", 0, "--out", out, "--csv", lines, "--html", page),
    )
    assert result.exit_code == 1
    assert [line.split()[:2] for line in result.stdout.splitlines()[1:3]] == [
        ["1", "caller"],
        ["2", "callers"],
    ]
    assert result.stderr.startswith("stopped after 2 runs\nError: ")
    assert "draining" in result.stderr
    assert [run["load"]["concurrency"] for run in json.loads(out.read_text())["runs"]] == [1, 2]
    assert len(lines.read_text().splitlines()) == 3
    assert "2 callers" in page.read_text()


def test_an_older_report_that_does_not_fit_is_told_before_anything_is_sent(
    script: Script, tmp_path: Path
) -> None:
    common = ("loadtest", script.address, "--model", "digits", "--duration", "50ms", "--warmup", 0)
    old, out = tmp_path / "old.json", tmp_path / "out.json"
    assert vaeserve(*common, "--concurrency", 1, "--out", old).exit_code == 0
    sent = len(script.sent(pb.EncodeRequest))
    search = ("--find-max", "--slo", "p99=20ms")
    for loop in (("--concurrency", 2), search):
        result = vaeserve(*common, *loop, "--compare", old, "--out", out)
        assert result.exit_code == 2
        assert f"Error: {old}: " in result.output
    old.write_text("[]")
    result = vaeserve(*common, "--concurrency", 1, "--compare", old, "--out", out)
    assert result.exit_code == 2
    assert result.output.endswith(f"Error: {old}: is no report of vaeserve loadtest\n")
    assert not out.exists()
    assert len(script.sent(pb.EncodeRequest)) == sent


def test_one_file_that_cannot_be_written_keeps_nothing_from_the_others(
    script: Script, tmp_path: Path
) -> None:
    folder, lines = tmp_path / "full.json", tmp_path / "runs.csv"
    folder.symlink_to("/dev/full")
    result = vaeserve(
        *("loadtest", script.address, "--model", "digits", "--concurrency", 1),
        *("--duration", "50ms", "--warmup", 0, "--out", folder, "--csv", lines),
    )
    assert result.exit_code == 1
    assert result.stderr == f"Error: {folder} cannot be written: No space left on device\n"
    assert "throughput" in result.stdout
    assert len(lines.read_text().splitlines()) == 2


def test_failures_that_grew_are_worse(script: Script, tmp_path: Path) -> None:
    common = ("loadtest", script.address, "--model", "digits", "--warmup", 0)
    loop = ("--concurrency", 1, "--duration", "300ms")
    old, out = tmp_path / "old.json", tmp_path / "out.json"
    assert vaeserve(*common, *loop, "--out", old).exit_code == 0
    # A server that is as fast as ever where it answers: every second request fails.
    calls = iter(range(10**6))

    def before(_: object) -> None:
        if next(calls) % 2:
            script.failures.append(Failure(grpc.StatusCode.INTERNAL, "INTERNAL"))

    script.before = before
    result = vaeserve(*common, *loop, "--compare", old, "--out", out, "--threshold", 1e6)
    assert result.exit_code == 3, result.output
    (worse,) = [line for line in result.stdout.splitlines() if "worse" in line]
    assert worse.split()[:2] == ["failed,", "dropped/%"]
    assert worse.endswith("worse by over 1 point")
    assert out.exists()
