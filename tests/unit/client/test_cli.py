"""The root command: lazy loading, missing requirements, and what its commands do."""

import csv
import io
import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import grpc
import numpy as np
import pytest
from PIL import Image

from unit.client.command_line import ran, vaeserve
from unit.client.scripted_model import pictures
from unit.client.scripted_server import Failure, Script
from vaeserve import Client, _cli
from vaeserve.v1 import vae_service_pb2 as pb


def test_help_lists_every_command_and_imports_none() -> None:
    code = (
        "import sys\nfrom vaeserve._cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print('LOADED', [m for m in sys.modules"
        " if m.startswith(('vaeserve_', 'vaeserve._commands', 'PIL', 'torch'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name, entry in _cli._COMMANDS.items():
        assert f"  {name} " in done.stdout
        assert entry.summary in done.stdout
    assert "LOADED []" in done.stdout


def test_version() -> None:
    assert ran("--version").startswith("vaeserve, version ")


def test_an_unknown_command_is_a_usage_error() -> None:
    result = vaeserve("nonsense")
    assert result.exit_code == 2
    assert "No such command" in result.output


@pytest.mark.parametrize(
    ("command", "package", "words"),
    [
        ("loadtest", "hdrh", "[loadtest] extra"),
        ("serve", "onnxruntime", "[server] or [gpu] extra"),
        ("verify", "onnxruntime", "[server] or [gpu] extra"),
        ("verify", "onnx", "[train] extra"),
    ],
)
def test_a_missing_requirement_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, command: str, package: str, words: str
) -> None:
    def missing(name: str) -> object:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    monkeypatch.setattr(_cli, "import_module", missing)
    result = vaeserve(command, "--help")
    assert result.exit_code == 1
    assert words in result.output
    assert len(result.output.splitlines()) == 1


def test_a_requirement_missing_while_running_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @click.command()
    def train() -> None:
        import_module("no_such_package")

    monkeypatch.setattr(_cli, "import_module", lambda _: type("M", (), {"train": train}))
    result = vaeserve("train")
    assert result.output == (
        "Error: vaeserve train needs the [train] extra: pip install 'vaeserve[train]'\n"
    )


def test_a_missing_module_of_ours_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_cli._COMMANDS, "train", _cli._Entry("vaeserve_no:x", ("train",), ""))
    assert isinstance(vaeserve("train").exception, ModuleNotFoundError)


def test_models(script: Script) -> None:
    table = ran("models", script.address).splitlines()
    assert table == [
        "MODEL   VERSION  READY  INPUT  LATENT  LIKELIHOOD  PRECISION    SIZE",
        "digits        3  yes    2x3    4       bernoulli   float32    0.0 kB",
        "faces         -  no     -      -       -           -               -",
        "",
        "faces: encoder.onnx: digest differs",
    ]
    first, second = json.loads(ran("models", script.address, "--json"))
    assert first == {"name": "digits", "version": 3, "ready": True, "problem": ""} | {
        "input_shape": [2, 3],
        "latent_shape": [4],
        "likelihood": "bernoulli",
        "precision": "float32",
        "size_bytes": 0,
    }
    assert list(second) == ["name", "version", "ready", "problem"]
    assert second["ready"] is False


def test_errors_are_one_line_and_status_1(script: Script, tmp_path: Path) -> None:
    script.failures.append(Failure(grpc.StatusCode.INTERNAL, "INTERNAL"))
    result = vaeserve("sample", script.address, "--model", "digits", "-o", tmp_path / "x.npy")
    assert (result.exit_code, result.output) == (1, "Error: INTERNAL: as scripted\n")


def test_encode_decode_through_files(script: Script, tmp_path: Path) -> None:
    x = pictures(3)
    np.save(tmp_path / "x.npy", x)
    call = (script.address, "--model", "digits", "-o")
    ran("encode", *call, tmp_path / "q.npz", tmp_path / "x.npy", "--draws", 2, "--seed", 5)
    with np.load(tmp_path / "q.npz") as q:
        assert q["draws"].shape == (3, 2, 4)
        assert q["seed"] == 5
    ran("decode", *call, tmp_path / "y.npz", tmp_path / "q.npz")
    with Client(script.address) as client, np.load(tmp_path / "y.npz") as y:
        np.testing.assert_array_equal(y["x_hat"], client.model("digits").reconstruct(x))


def test_latents_of_another_model_are_refused(script: Script, tmp_path: Path) -> None:
    np.savez(tmp_path / "q.npz", mu=np.zeros((1, 4), np.float32), latent_space_id="space-b")
    call = (script.address, "--model", "digits", "-o", tmp_path / "y.npy")
    result = vaeserve("decode", *call, tmp_path / "q.npz")
    assert result.exit_code == 1
    assert "LATENT_SPACE_MISMATCH" in result.output


def test_sample_draws_a_tidy_grid(script: Script, tmp_path: Path) -> None:
    call = (script.address, "--model", "digits", "--seed", 7, "-o")
    ran("sample", *call, tmp_path / "grid.png", "-n", 5)
    ran("sample", *call, tmp_path / "x.npz", "-n", 5)
    with Client(script.address) as client:
        expected = client.model("digits").sample(5, seed=7, dtype=np.uint8)
    with Image.open(tmp_path / "grid.png") as grid:
        pixels = np.asarray(grid)
    assert pixels.shape == (2 * 2 + 2, 3 * 3 + 2 * 2)
    np.testing.assert_array_equal(pixels[:2, :3], expected[0])
    np.testing.assert_array_equal(pixels[4:, 5:8], expected[4])
    assert (pixels[2:4] == 255).all()
    with np.load(tmp_path / "x.npz") as saved:
        assert (saved["seed"], saved["latents"].shape) == (7, (5, 4))
        assert saved["x_hat"].dtype == np.float32


def test_sample_tells_the_seed_it_chose(script: Script, tmp_path: Path) -> None:
    call = (script.address, "--model", "digits", "-o", tmp_path / "x.npz")
    chosen = ran("sample", *call, "-n", 1)
    with np.load(tmp_path / "x.npz") as saved:
        assert chosen == f"seed {saved['seed']}\n"


def test_edit_of_pictures_and_of_latents(script: Script, tmp_path: Path) -> None:
    x = pictures(3)
    np.save(tmp_path / "x.npy", x)
    call = (script.address, "--model", "digits", "-o")
    ran("encode", *call, tmp_path / "q.npz", tmp_path / "x.npy")
    moves = ("smile=1.5", "--preserve", "glasses")
    for source in ("x.npy", "q.npz"):
        ran("edit", *call, tmp_path / "y.npz", tmp_path / source, *moves)
        with Client(script.address) as client, np.load(tmp_path / "y.npz") as y:
            expected = client.model("digits").edit(x, {"smile": 1.5}, latents=True)
            np.testing.assert_array_equal(y["x_hat"], expected)
            np.testing.assert_array_equal(y["latents"], expected.latents)
    assert [list(sent.preserve) for sent in script.sent(pb.EditRequest)][::2] == [["glasses"]] * 2


def test_an_attribute_is_moved_once(script: Script, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", pictures(1))
    call = (script.address, "--model", "digits", "--json", tmp_path / "x.npy")
    result = vaeserve("edit", *call, "smile=1", "smile=2")
    assert result.exit_code == 2
    assert "an attribute is named twice" in result.output


@pytest.mark.parametrize("amount", ["smile", "smile=much", "=1", "1.5"])
def test_an_amount_that_is_none(script: Script, tmp_path: Path, amount: str) -> None:
    np.save(tmp_path / "x.npy", pictures(1))
    call = (script.address, "--model", "digits", "-o", tmp_path / "y.npy", tmp_path / "x.npy")
    result = vaeserve("edit", *call, amount)
    assert result.exit_code == 2
    assert f"'{amount}' is not of the form smile=1.5" in result.output


def test_scores_as_a_table_and_as_arrays(script: Script, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", pictures(3))
    call = ("score", script.address, "--model", "digits", tmp_path / "x.npy")
    heading, *lines = ran(*call).splitlines()
    assert re.split("  +", heading) == [
        "ROW",
        "-ELBO",
        "RECONSTRUCTION",
        "KL",
        "PERCENTILE",
        "TYPICALITY",
    ]
    assert [line.split()[0] for line in lines] == ["0", "1", "2"]
    assert {len(line) for line in lines} == {len(heading)}
    assert "IMPORTANCE WEIGHTED" in ran(*call, "--draws", 4)
    assert not ran(*call, "--draws", 4, "--seed", 9, "-o", tmp_path / "s.npz")
    with Client(script.address) as client, np.load(tmp_path / "s.npz") as saved:
        scored = client.model("digits").score(pictures(3), draws=4, seed=9)
        assert saved["seed"] == 9
        np.testing.assert_array_equal(saved["importance_weighted"], scored.importance_weighted)
        as_json = json.loads(ran(*call, "--draws", 4, "--seed", 9, "--json"))
        np.testing.assert_array_equal(np.float32(as_json["kl"]), scored.kl)


def test_scores_as_csv(script: Script, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", pictures(3))
    call = ("score", script.address, "--model", "digits", tmp_path / "x.npy")
    drawn = (*call, "--draws", 4, "--seed", 9)
    assert not ran(*drawn, "-o", tmp_path / "s.csv")
    text = (tmp_path / "s.csv").read_text()
    table = list(csv.DictReader(io.StringIO(text, newline="")))
    held = json.loads(ran(*drawn, "--json"))
    assert list(table[0]) == list(held)
    assert [row.pop("seed") for row in table] == ["9"] * 3
    for name in table[0]:
        # The digits of the JSON, which give the same float32 again.
        assert [row[name] for row in table] == [str(value) for value in held[name]]
    assert ran(*drawn, "-o", "-", "--format", "csv") == text
    # What was not asked for is no column.
    assert ran(*call, "-o", "-", "--format", "csv").splitlines()[0] == (
        "negative_elbo,reconstruction,kl,percentile,typicality"
    )


def test_only_a_table_is_written_as_csv(script: Script, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", pictures(3))
    call = (script.address, "--model", "digits", tmp_path / "x.npy", "-o", tmp_path / "y.csv")
    assert "must end in .npz\n" in vaeserve("encode", *call).output
    assert "must end in .png, .npy, .npz, or give --format" in vaeserve("reconstruct", *call).output
    assert "Say where the result goes" in vaeserve("score", *call[:-2], "--format", "npz").output
    assert "must end in .npz, .csv, or" in vaeserve("score", *call[:-1], tmp_path / "y.txt").output
    assert script.requests == []


def test_sample_of_the_fitted_prior(script: Script, tmp_path: Path) -> None:
    call = (script.address, "--model", "digits", "--seed", 7, "-o", tmp_path / "x.npy")
    ran("sample", *call, "--prior", "fitted", "-n", 3)
    (sent,) = script.sent(pb.SampleRequest)
    assert sent.prior == pb.PRIOR_FITTED
