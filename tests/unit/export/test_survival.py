"""Runs that are killed, stopped, or shared by processes, with real processes and signals."""

import dataclasses
import json
import multiprocessing
import signal
import subprocess
import sys
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support import survival
from vaeserve_export.cli.stopping import stop_on_signals
from vaeserve_export.data.dataset import load
from vaeserve_export.training import run as run_folder
from vaeserve_export.training.run import read_summary
from vaeserve_export.training.settings import TrainSettings
from vaeserve_export.training.train import train

KILLS = 10


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Makes processes that have PyTorch imported already, or each would spend seconds on it."""
    context = multiprocessing.get_context("forkserver")
    # What is installed: the server of forks does not look where pytest does. Adam imports _dynamo.
    context.set_forkserver_preload(
        ["torch._dynamo", "vaeserve_export.training.train", "sklearn.datasets"]
    )
    return context


def train_in_a_process(
    context: ForkServerContext,
    run: Path,
    seconds: float | None = None,
    *,
    after_checkpoint: bool = False,
) -> int:
    """Train, killed after so many seconds, of all or after the first checkpoint; the exit code."""
    process = context.Process(target=survival.train_on, args=(run,))
    process.start()
    while after_checkpoint and process.is_alive():
        if (run / run_folder.CHECKPOINT).exists():
            break
        process.join(0.001)
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
    assert process.exitcode is not None
    return process.exitcode


def test_killed_at_any_moment_a_run_ends_in_the_same_bits(
    processes: ForkServerContext, tmp_path: Path
) -> None:
    assert train_in_a_process(processes, tmp_path / "warm") == 0
    started = time.monotonic()
    assert train_in_a_process(processes, tmp_path / "whole") == 0
    lasted = time.monotonic() - started
    expected = (tmp_path / "whole" / run_folder.WEIGHTS).read_bytes()

    moments = np.random.default_rng()
    killed, had_checkpoint = 0, 0
    for attempt in range(5 * KILLS):  # some are over, or have not begun, when they are to be killed
        run = tmp_path / str(attempt)
        # Half of them with something to go on from, however long a busy machine takes to begin.
        late = killed % 2 == 1
        after = moments.uniform(0, 0.5) if late else moments.uniform(0.1, 0.9)
        code = train_in_a_process(processes, run, after * lasted, after_checkpoint=late)
        assert code in {0, -signal.SIGKILL}
        if code == 0:
            continue
        killed += 1
        had_checkpoint += (run / run_folder.CHECKPOINT).exists()
        assert train_in_a_process(processes, run) == 0
        assert (run / run_folder.WEIGHTS).read_bytes() == expected, run
        if killed == KILLS:
            break
    assert killed == KILLS
    assert had_checkpoint >= KILLS // 2


def figures(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / run_folder.METRICS).read_text().splitlines()]


def command(*arguments: object) -> list[str]:
    return ["-m", "vaeserve", "train", "--data", "digits", *map(str, arguments)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_a_run_well(tmp_path: Path, number: signal.Signals) -> None:
    run = tmp_path / "a run"
    endless = command("--out", run, "--hidden", 16, "--epochs", 10**9, "--patience", 10**9)
    with subprocess.Popen(
        [sys.executable, *endless], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert any(line.startswith("epoch 1/") for line in process.stdout)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 75
    assert errors.splitlines() == [
        "",
        "stopped, and nothing is lost; go on with: "
        f"vaeserve train --data digits --out '{run}' --resume",
    ]
    done = len(figures(run))
    settings = dataclasses.replace(run_folder.read_config(run).settings, epochs=done + 1)
    train(settings, load("digits"), run, resume=True)
    assert read_summary(run).epochs_run == done + 1


def test_a_second_interrupt_is_one() -> None:
    # A shell starts what it runs in the background with interrupts ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with stop_on_signals() as stop:
        assert not stop()
        signal.raise_signal(signal.SIGINT)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """200 steps on batches of 81 of 1,618 rows: shares of 40 and 41, in the last batch others."""
    settings = TrainSettings(
        hidden=32, latent_dim=4, batch_size=81, epochs=10, binarise=True, free_bits=0.1, seed=3
    )
    train(settings, load("digits"), tmp_path / "one")
    options = ("--hidden", 32, "--latent-dim", 4, "--batch-size", 81, "--epochs", 10, "--binarise")
    two = command("--out", tmp_path / "two", "--free-bits", 0.1, "--seed", 3, "--json", *options)
    launched = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]

    result = subprocess.run(
        [*launched, *two], capture_output=True, text=True, check=False, timeout=100
    )

    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["epochs_run"] == 10  # one of them speaks
    one, both = figures(tmp_path / "one"), figures(tmp_path / "two")
    assert one[-1]["step"] == 200
    for alone, together in zip(one, both, strict=True):
        for name in alone.keys() - {"seconds", "cpu_seconds"}:
            assert together[name] == pytest.approx(alone[name], rel=1e-4), (name, alone["epoch"])
    summaries = [read_summary(tmp_path / name) for name in ("one", "two")]
    assert summaries[0].negative_elbo_nats == pytest.approx(summaries[1].negative_elbo_nats, 1e-4)
    assert summaries[0].validation_rows == summaries[1].validation_rows


def test_a_process_may_have_no_row_of_the_last_batch(tmp_path: Path) -> None:
    """1,618 rows in batches of 1,617: one is left for two."""
    options = ("--likelihood", "gaussian", "--batch-size", 1617, "--hidden", 8, "--epochs", 1)
    launched = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    result = subprocess.run(
        [*launched, *command("--out", tmp_path / "run", *options)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert result.returncode == 0, result.stderr
    assert figures(tmp_path / "run")[-1]["step"] == 2
