"""`make gpu-check` as far as a CPU can tell: every part runs, and what fails is told."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from gpu_check import nets
from gpu_check.findings import Finding, missed


def gpu_check(home: Path, *options: str) -> tuple[int, str, dict[str, Any]]:
    """Exit status, output and JSON of a dry run."""
    out = home / "out.json"
    command = [sys.executable, "-m", "gpu_check", "--device", "cpu", "--quick"]
    done = subprocess.run(
        [*command, "--seconds", "0.05", "--home", str(home), "--out", str(out), *options],
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=110,
        check=False,
    )
    found: dict[str, Any] = json.loads(out.read_text())
    return done.returncode, done.stdout, found


@pytest.mark.alone  # figures are measured in moments of 25 ms, which others could take
def test_a_dry_run_goes_through_every_part(tmp_path: Path) -> None:
    # The gpu tests would all be skipped, after seconds of imports.
    code, output, report = gpu_check(tmp_path, "--skip", "tests")
    assert report["failures"] == {}
    assert code == 0, output
    found = {(row["net"], row["what"]): row for row in report["findings"]}
    parts = {row["part"] for row in report["findings"]}
    assert parts == {
        *("environment", "bundles", "numerics", "workers", "noise", "memory"),
        *("speed tiny", "service tiny"),
    }
    for (net, what), row in found.items():
        if row["unit"] in {"rows/s", "us", "ms", "MB"}:
            assert row["value"] > 0 or "over" in what, (net, what)
    for graph in ("encoder", "decoder"):
        row = found["tiny", f"{graph} TF32 off: other neighbours"]
        assert (row["value"], row["passed"]) == (0, True)
    # The table comes last, and says that its bars are none of this machine's.
    assert "-- bars (not applied to this run)" in output
    assert output.splitlines()[-1].startswith(f"{report['seconds']:.0f} s; 0 bars missed, 0 parts")


def test_a_part_that_fails_does_not_take_the_others_along(tmp_path: Path) -> None:
    broken = tmp_path / "bundles" / "tiny" / "tiny" / "1"
    broken.mkdir(parents=True)
    (broken / "encoder.onnx").write_bytes(b"no graph")
    code, output, report = gpu_check(tmp_path, "--only", "numerics,environment")
    assert code == 1
    assert list(report["failures"]) == ["numerics"]
    assert "numerics" in output.partition("-- failures")[2]
    assert {row["part"] for row in report["findings"]} == {"environment"}


def test_a_part_out_of_time_is_stopped_and_told(tmp_path: Path) -> None:
    code, _, report = gpu_check(tmp_path, "--only", "environment,noise", "--total", "0.01")
    assert code == 1
    assert report["failures"]["environment"].startswith("stopped after")
    assert report["failures"]["noise"].startswith("not begun")


def test_a_bar_that_is_missed_or_not_measured_counts() -> None:
    def finding(value: float | None, *, at_least: bool) -> Finding:
        return Finding("part", "net", "what", value, "x", 0.9, at_least=at_least)

    assert not missed([finding(0.9, at_least=True), finding(0.9, at_least=False)])
    assert len(missed([finding(0.8, at_least=True), finding(1.0, at_least=False)])) == 2
    assert len(missed([finding(None, at_least=True)])) == 1


def test_the_large_decoder_is_that_of_stable_diffusion() -> None:
    """49,490,179 weights as published, and 20 of the 1x1 convolution before it."""
    with torch.device("meta"):
        decoder = nets.SD512.module("decoder")
        assert nets.parameters(decoder) == 49_490_179 + 20
        assert decoder(torch.zeros(2, *nets.SD512.latent_shape)).shape == (2, 3, 512, 512)
        mu, log_var = nets.SD512.module("encoder")(torch.zeros(2, *nets.SD512.input_shape))
        assert mu.shape == log_var.shape == (2, *nets.SD512.latent_shape)
