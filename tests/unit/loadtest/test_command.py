"""`vaeserve loadtest` as it is typed, against a real server on a loopback port."""

import errno
import json
import re
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from click.testing import CliRunner

from unit.client.scripted_server import Failure, Script, serving
from unit.loadtest.loads import load
from vaeserve.v1 import arrays, model_service_pb2 as models_pb, vae_service_pb2 as pb
from vaeserve_loadtest import Part, runner
from vaeserve_loadtest.cli import loadtest

pytestmark = pytest.mark.alone  # rates and latencies are measured


def command(*arguments: object) -> Any:
    return CliRunner().invoke(loadtest, [str(argument) for argument in arguments])


def test_command_writes_a_table_json_and_a_file(script: Script, tmp_path: Path) -> None:
    common = (script.address, "--model", "digits", "--duration", "200ms", "--warmup", "0")
    table = command(*common, "--concurrency", 2, "--rpc", "sample", "--rows", 4)
    assert table.exit_code == 0, table.output
    assert table.output.startswith("sample, 4 rows a request, 2 callers, 0.2 s after 0 s warm-up")
    assert " p99.9 " in table.output
    written = command(*common, "--rate", 50, "--json", "--out", tmp_path / "report.json")
    (run,) = json.loads(written.stdout)["runs"]
    assert run["load"]["rate"] == 50
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
    def full(*_: object, **__: object) -> object:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    common = (script.address, "--model", "digits", "--duration", "100ms", "--warmup", "0")
    result = command(*common, "--concurrency", 1, "--out", tmp_path / "r.json")
    assert result.exit_code == 1
    assert "throughput" in result.stdout
    assert result.stderr == (
        f"Error: {tmp_path / 'r.json'} cannot be written: No space left on device\n"
    )


def test_no_request_due_is_no_failure(script: Script) -> None:
    common = (script.address, "--model", "digits", "--duration", "50ms", "--warmup", "0")
    result = command(*common, "--rate", 0.01)
    assert result.exit_code == 0
    assert "no request was due in the measured time" in result.output


def test_help_says_that_a_loop_is_required() -> None:
    assert "--sweep and --find-max is required" in command("--help").output.replace("\n", " ")


def test_samples_differ_by_their_seed(script: Script) -> None:
    runner.run(load(script, rpc="sample", concurrency=2, duration_s=0.1, seed=5))
    seeds = [request.seed for request in script.sent(pb.SampleRequest)]
    assert len(seeds) == len(set(seeds)) > 1
    assert min(seeds) >= 5


def test_a_mix_is_sent_in_its_proportions(script: Script) -> None:
    mix = (Part("encode", 1, 0.6), Part("sample", 2, 0.3), Part("decode", 1, 0.1))
    report = runner.run(load(script, mix=mix, rate=400.0, duration_s=1.0, warmup_s=0.0))
    assert report.failed == 0
    shares = [part.succeeded / report.succeeded for part in report.parts]
    assert shares == pytest.approx([0.6, 0.3, 0.1], abs=0.1)
    assert sum(part.succeeded for part in report.parts) == report.succeeded
    sent = script.sent(pb.SampleRequest)
    assert {request.n for request in sent} == {2}


def test_rows_of_a_file_are_sent_in_turn(script: Script, tmp_path: Path) -> None:
    levels = np.arange(5 * 6, dtype=np.uint8).reshape(5, 2, 3)
    np.savez(tmp_path / "rows.npz", labels=np.arange(5), images=levels)
    settings = {"data": tmp_path / "rows.npz", "rows": 2, "duration_s": 0.1, "warmup_s": 0.0}
    runner.run(load(script, concurrency=1, **settings))
    sent = [arrays.from_tensor(request.input) for request in script.sent(pb.EncodeRequest)]
    rows = np.concatenate(sent)
    assert rows.dtype == np.uint8
    # Request 1 begins with the rows 2 and 3; the end of the file is followed by its beginning.
    expected = np.resize(np.roll(levels, -2, axis=0), rows.shape)
    np.testing.assert_array_equal(rows, expected)


@pytest.mark.parametrize("name", ["none.npy", "text.npy", "shape.npy"])
def test_files_that_are_not_the_models(script: Script, tmp_path: Path, name: str) -> None:
    (tmp_path / "text.npy").write_text("no array")
    np.save(tmp_path / "shape.npy", np.zeros((3, 7), np.float32))
    with pytest.raises(ValueError, match=name):
        runner.run(load(script, concurrency=1, data=tmp_path / name))


def test_a_file_of_another_kind_is_told_in_a_line(script: Script, tmp_path: Path) -> None:
    for name, content in {"seven.png": b"\x89PNG\r\n", "cut.npz": b"PK\x03\x04cut"}.items():
        (tmp_path / name).write_bytes(content)
        told = command(script.address, "--concurrency", 1, "--data", tmp_path / name)
        assert told.exit_code == 2
        assert f"Error: '{tmp_path / name}' is no .npy or .npz that can be read\n" in told.output
        assert "pickle" not in told.output
    told = command(script.address, "--concurrency", 1, "--data", tmp_path / "none.npy")
    assert "none.npy' cannot be read: No such file" in told.output


def test_the_only_model_need_not_be_named(script: Script) -> None:
    # The script lists another one, which is not ready.
    timed = ("--duration", "100ms", "--warmup", "0")
    told = command(script.address, *timed, "--concurrency", 1)
    assert told.exit_code == 0, told.output
    assert told.output.startswith("encode, 1 row a request, 1 caller, ")
    assert f": digits at {script.address}\n" in told.output


@pytest.mark.parametrize(("names", "served"), [(("a", "b"), "a, b"), ((), "none")])
def test_where_not_one_model_is_ready_it_must_be_named(names: tuple[str], served: str) -> None:
    class Several(Script):
        def ListModels(self, request: Any, context: Any) -> Any:  # noqa: N802
            ready = [models_pb.ModelState(name=name, version=1, ready=True) for name in names]
            return models_pb.ListModelsResponse(models=ready)

    with serving(Several()) as script:
        told = command(script.address, "--concurrency", 1)
        assert told.exit_code == 2
        assert f"Say which model with --model NAME; ready here: {served}." in told.output
        # Mistakes that need no server come first.
        assert "exactly one of" in command(script.address).output


def test_a_ramp_of_callers_begins_with_few(script: Script) -> None:
    lock, now, seen = threading.Lock(), 0, list[int]()

    def count(_: object) -> None:
        nonlocal now
        with lock:
            now += 1
            seen.append(now)
        time.sleep(0.01)
        with lock:
            now -= 1

    script.before = count
    chosen = load(script, ramp_from=1, concurrency=8, duration_s=1.0, warmup_s=0.0)
    runner.run(chosen)
    assert max(seen[:5]) == 1
    # Two callers seldom miss one another for long.
    assert max(seen) > 1


def test_a_sweep_is_a_run_each(script: Script, tmp_path: Path) -> None:
    common = (script.address, "--model", "digits", "--duration", "150ms", "--warmup", "0")
    files = ("--csv", tmp_path / "s.csv", "--html", tmp_path / "s.html")
    result = command(*common, "--sweep", "concurrency=1,2,4", *files)
    assert result.exit_code == 0, result.output
    named = [line.split()[:2] for line in result.output.splitlines()[1:4]]
    assert named == [["1", "caller"], ["2", "callers"], ["4", "callers"]]
    assert len((tmp_path / "s.csv").read_text().splitlines()) == 4
    page = (tmp_path / "s.html").read_text()
    assert page.count("<svg") == 2
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)


def test_find_max_holds_its_level(script: Script, tmp_path: Path) -> None:
    # 10 ms a request, one at a time: no more than 100 a second.
    turn = threading.Lock()

    def one_at_a_time(_: object) -> None:
        with turn:
            time.sleep(0.01)

    script.before = one_at_a_time
    common = (script.address, "--model", "digits", "--duration", "1s", "--warmup", "0")
    result = command(
        *common, "--find-max", "--slo", "p80=100ms", "--json", "--html", tmp_path / "f.html"
    )
    assert result.exit_code == 0, result.output
    assert "at most 31 runs of 1 s, about 31 s\n" in result.stderr
    found = json.loads(result.stdout)["find_max"]
    assert 20 <= found["rate"] <= 110
    assert found["rate"] < found["failed_at"]
    assert (found["confidence"] is None) == (found["caveat"] is not None)
    assert "p80=100ms" in (tmp_path / "f.html").read_text()


def test_a_level_that_no_rate_holds(script: Script) -> None:
    script.before = lambda _: time.sleep(0.02)
    common = (script.address, "--model", "digits", "--duration", "200ms", "--warmup", "0")
    result = command(*common, "--find-max", "--slo", "p50=1ms")
    assert result.exit_code == 1
    assert "no rate holds p50=1ms" in result.output


def test_compare_tells_what_grew_worse(script: Script, tmp_path: Path) -> None:
    common = (script.address, "--model", "digits", "--duration", "300ms", "--warmup", "0")
    old = tmp_path / "old.json"
    assert command(*common, "--concurrency", 1, "--out", old).exit_code == 0
    script.before = lambda _: time.sleep(0.05)
    slower = command(*common, "--concurrency", 1, "--compare", old, "--threshold", 1.5)
    assert slower.exit_code == 3
    assert "worse than 1.5x" in slower.output
    assert command(*common, "--concurrency", 1, "--compare", old, "--threshold", 1e6).exit_code == 0
    other = command(*common, "--concurrency", 2, "--compare", old)
    assert other.exit_code == 2
    assert "no run of the older report" in other.output
    old.write_text("{}")
    assert command(*common, "--concurrency", 1, "--compare", old).exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("--sweep", "callers=1,2"),
        ("--sweep", "concurrency=1.5"),
        ("--ramp", "rate=1"),
        ("--ramp", "rate=1:2", "--rate", 1),
        ("--find-max",),
        ("--find-max", "--slo", "99=20ms"),
        ("--find-max", "--slo", "p100=20ms"),
        ("--rate", 1, "--slo", "p99=20ms"),
        ("--rate", 1, "--mix", "encode:much"),
        ("--rate", 1, "--mix", "train:1"),
        ("--concurrency", 1, "--workers", 2),
        ("--concurrency", 1, "--out", "no/such/folder.json"),
    ],
)
def test_mistakes_of_the_newer_options(script: Script, arguments: tuple[Any]) -> None:
    result = command(script.address, "--model", "digits", *arguments)
    assert result.exit_code == 2, result.output
