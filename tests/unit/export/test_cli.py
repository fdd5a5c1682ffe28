"""The commands: what they print, and that importing them is light."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from support.epochs import epoch_record
from vaeserve_export.cli.train import train
from vaeserve_export.training import progress
from vaeserve_export.training.run import read_config, read_summary
from vaeserve_export.training.settings import TrainSettings

Run = Callable[..., Result]

FAST = ("--hidden", 16, "--latent-dim", 3)


def test_importing_the_commands_is_light() -> None:
    program = (
        "import sys, vaeserve_export.cli;"
        "print([m for m in ('torch', 'onnx', 'onnxruntime', 'numpy', 'grpc') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert result.stdout == "[]\n"


def test_train_export_verify(tmp_path: Path, run_command: Run) -> None:
    run, repository = tmp_path / "run", tmp_path / "repository"
    trained = run_command("train", "--data", "digits", "--epochs", 20, *FAST, "--out", run)
    assert trained.exit_code == 0
    lines = trained.stdout.splitlines()
    # The data, the first epoch, every second, and the result.
    assert len(lines) == 13
    assert lines[0].startswith("digits: 1618 rows to train on and 179 to validate, [1, 8, 8] each")
    assert lines[1].startswith("epoch 1/20  -ELBO ")
    assert lines[-1].startswith(f"{run}: best of 20 epochs is ")
    longer = f"vaeserve train --data digits --out {run} --resume --epochs 40"
    assert trained.stderr.startswith("still improving: The best of 20 epochs is ")
    assert trained.stderr.endswith(f" Train longer: {longer}\n")

    exported = run_command("export", run, "--repository", repository, "--name", "digits")
    assert exported.stdout == f"{repository / 'digits' / '1'}\n"
    assert exported.stderr == ""

    verified = run_command("verify", repository / "digits" / "1")
    assert "parity x_hat" in verified.stdout
    assert "figures recorded" in verified.stdout

    def export(*version: object) -> tuple[str, str]:
        again = run_command("export", run, "--repository", repository, "--name", "digits", *version)
        return again.stdout, again.stderr

    assert export("--version", 7) == (
        f"{repository / 'digits' / '7'}\n",
        "wrote version 7 of digits; a server that is running keeps the version it has until it is "
        "restarted\n",
    )
    assert export("--version", 3) == (
        f"{repository / 'digits' / '3'}\n",
        "wrote version 3 of digits; servers serve the highest, which is 7\n",
    )


def test_a_training_that_learned_all_it_could_is_not_to_go_on(
    tmp_path: Path, run_command: Run
) -> None:
    fast = ("--hidden", 64, "--learning-rate", 0.01, "--patience", 3, "--epochs", 200)
    trained = run_command("train", "--data", "digits", *fast, "--out", tmp_path / "run")
    assert trained.exit_code == 0
    assert trained.stderr == ""


def test_json(tmp_path: Path, folder: Path, run_command: Run) -> None:
    arguments = ("--data", "digits", "--epochs", 2, *FAST, "--out", tmp_path / "run", "--json")
    trained = run_command("train", *arguments)
    assert json.loads(trained.stdout)["epochs_run"] == 2
    assert "epoch 1/2" in trained.stderr

    verified = run_command("verify", folder, "--json")
    assert json.loads(verified.stdout)["numerics"]["rows"] == "256"


def test_resume(tmp_path: Path, run_command: Run, refused: Callable[..., str]) -> None:
    arguments = ("--data", "digits", "--epochs", 1, *FAST, "--out", tmp_path / "run")
    assert run_command("train", *arguments).exit_code == 0
    assert "already holds a run; continue it with --resume" in refused("train", *arguments)
    assert run_command("train", *arguments, "--resume").exit_code == 0


def test_resume_takes_the_runs_own_settings(tmp_path: Path, run_command: Run) -> None:
    run = tmp_path / "run"
    first = ("--beta", 0.5, "--epochs", 2, "--seed", 3)
    assert run_command("train", "--data", "digits", *first, *FAST, "--out", run).exit_code == 0
    before = read_config(run).settings

    resumed = run_command("train", "--data", "digits", "--epochs", 3, "--out", run, "--resume")

    assert resumed.exit_code == 0
    assert read_config(run).settings == dataclasses.replace(before, epochs=3)
    assert read_summary(run).epochs_run == 3


def test_resume_refuses_another_setting_that_was_typed(
    tmp_path: Path, run_command: Run, refused: Callable[..., str]
) -> None:
    arguments = ("--data", "digits", "--epochs", 1, "--out", tmp_path / "run")
    assert run_command("train", *arguments, *FAST).exit_code == 0
    # The default of the option, and yet not what the run was started with.
    line = refused("train", *arguments, "--resume", "--latent-dim", TrainSettings().latent_dim)
    assert "was started with latent_dim 3, not 20" in line


def test_data_line_leaves_json_alone(tmp_path: Path, run_command: Run) -> None:
    arguments = ("--data", "digits", "--epochs", 1, *FAST, "--out", tmp_path / "run", "--json")
    trained = run_command("train", *arguments)
    expected = (
        "digits: 1618 rows to train on and 179 to validate, [1, 8, 8] each, values 0 to 1; "
        "mlp, bernoulli, at most 1 epochs"
    )
    assert trained.stderr.splitlines()[0] == expected
    assert len(trained.stdout.splitlines()) == 1


def test_interruption_says_how_to_go_on(
    tmp_path: Path, run_command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    run = tmp_path / "run"
    monkeypatch.setattr(progress._Lines, "epoch", interrupted)
    arguments = ("--data", "digits", "--epochs", 3, *FAST, "--out", run)
    result = run_command("train", *arguments)
    assert result.exit_code == 130
    message = f"interrupted; go on with --resume, or finish with --resume --epochs 1: {run}"
    assert result.stderr.splitlines() == ["", message]

    monkeypatch.undo()
    finished = ("--data", "digits", "--out", run, "--resume", "--epochs", 1)
    assert run_command("train", *finished).exit_code == 0
    assert read_summary(run).epochs_run == 1


@pytest.mark.parametrize(("beta", "warned"), [(1000, True), (0, False)])
def test_collapsed_posterior_is_warned_of(
    tmp_path: Path, run_command: Run, beta: float, warned: bool
) -> None:
    arguments = ("--data", "digits", "--epochs", 3, *FAST, "--out", tmp_path / "run")
    result = run_command("train", *arguments, "--beta", beta)
    assert result.exit_code == 0
    assert (read_summary(tmp_path / "run").active_units == 0) == warned
    assert ("warning: no latent dimension is active" in result.stderr) == warned


def test_defaults_are_those_of_the_settings() -> None:
    options = {option.name: option.default for option in train.params}
    for name, default in dataclasses.asdict(TrainSettings()).items():
        assert options[name] == default, name


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((0, 4))}, "is empty"),
        ({"x": np.full((4, 4), np.nan)}, "holds NaN or infinite values"),
        ({"x": np.full((4, 4), -1.0)}, "use likelihood gaussian"),
        ({"x": np.zeros((1, 4))}, "1 row is too few"),
    ],
)
def test_bad_data_is_one_line(
    tmp_path: Path,
    refused: Callable[..., str],
    arrays: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]],
    message: str,
) -> None:
    np.savez(tmp_path / "a.npz", allow_pickle=False, **arrays)
    line = refused("train", "--data", f"npz:{tmp_path / 'a.npz'}", "--out", tmp_path / "run")
    assert line.startswith("Error: ")
    assert message in line
    assert not (tmp_path / "run").exists()


def test_bad_settings_are_one_line(tmp_path: Path, refused: Callable[..., str]) -> None:
    line = refused("train", "--data", "digits", "--out", tmp_path / "run", "--epochs", 0)
    assert line == "Error: epochs must be at least 1"


def test_bar_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with progress.show(4, 100, to_stderr=False) as listener:
        for epoch in (2, 3, 4):  # a resumed run
            for rows_done in (64, 100):
                listener.batch(epoch, rows_done)
            listener.epoch(epoch_record(epoch))
    shown = capsys.readouterr().out
    assert "epoch 4/4" in shown
    assert "100%" in shown
    assert "-ELBO 24.00 = reconstruction 20.00 + KL 4.00" in shown


@pytest.mark.parametrize(("epochs", "lines"), [(1, 1), (5, 5), (25, 13), (200, 11)])
def test_about_ten_lines_elsewhere(
    capsys: pytest.CaptureFixture[str], epochs: int, lines: int
) -> None:
    with progress.show(epochs, 100, to_stderr=False) as listener:
        for epoch in range(1, epochs + 1):
            listener.epoch(epoch_record(epoch))
    assert len(capsys.readouterr().out.splitlines()) == lines
