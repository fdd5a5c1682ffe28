"""The root command: lazy loading, missing requirements, files in and out."""

import csv
import errno
import io
import json
import re
import struct
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from zlib import compress, crc32

import click
import grpc
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from unit.client.scripted_server import Failure, Script, pictures
from vaeserve import Client, _cli
from vaeserve.v1 import vae_service_pb2 as pb

LEVELS = np.rint(pictures(1)[0] * 255).astype(np.uint8)


def vaeserve(*arguments: object) -> Result:
    return CliRunner().invoke(_cli.main, [str(argument) for argument in arguments])


def ran(*arguments: object) -> str:
    result = vaeserve(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


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


def test_pictures_come_from_png(script: Script, tmp_path: Path) -> None:
    Image.fromarray(LEVELS).save(tmp_path / "x.png")
    call = (script.address, "--model", "digits", "-o")
    ran("reconstruct", *call, tmp_path / "y.png", tmp_path / "x.png")
    with Client(script.address) as client, Image.open(tmp_path / "y.png") as y:
        expected = client.model("digits").reconstruct(LEVELS, dtype=np.uint8)
        np.testing.assert_array_equal(np.asarray(y), expected[0])
    ran("interpolate", *call, tmp_path / "walk.png", *[tmp_path / "x.png"] * 2, "--steps", 4)
    with Image.open(tmp_path / "walk.png") as walk:
        assert walk.size == (4 * 3 + 3 * 2, 2)
    ran("encode", *call, tmp_path / "q.npz", tmp_path / "x.png")
    ran("interpolate", *call, tmp_path / "walk.npz", *[tmp_path / "q.npz"] * 2)
    with np.load(tmp_path / "walk.npz") as saved:
        assert saved["x_hat"].shape == (1, 8, 2, 3)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (
            Image.new("RGB", (4, 2)),
            "x.png is 4x2, 'digits' takes 3x2: PIL.ImageOps.fit(picture, (3, 2)) makes it fit",
        ),
        (Image.new("RGBA", (3, 2)), "x.png is partly transparent: lay it over a background first"),
        (Image.new("I;16", (3, 2)), "x.png has more than 8 bits"),
    ],
)
def test_a_png_that_does_not_fit(
    script: Script, tmp_path: Path, picture: Image.Image, message: str
) -> None:
    picture.save(tmp_path / "x.png")
    call = (script.address, "--model", "digits", "-o", tmp_path / "y.png")
    result = vaeserve("reconstruct", *call, tmp_path / "x.png")
    assert result.exit_code == 1
    assert message in result.output


def test_a_file_that_is_none(script: Script, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"no picture")
    (tmp_path / "x.npy").write_bytes(b"no array")
    np.savez(tmp_path / "x.npz", a=np.zeros(1), b=np.zeros(1))
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 no archive")
    call = (script.address, "--model", "digits", "-o", tmp_path / "y.npy")
    for name, message in (
        ("x.png", "no picture"),
        ("x.npy", "no .npy"),
        ("x.npz", "holds a, b"),
        ("bad.npz", "no .npy"),
    ):
        result = vaeserve("reconstruct", *call, tmp_path / name)
        assert result.exit_code == 1
        assert message in result.output


def test_a_wrong_suffix_is_refused_before_the_call(script: Script, tmp_path: Path) -> None:
    result = vaeserve("sample", script.address, "--model", "digits", "-o", tmp_path / "x.jpg")
    assert result.exit_code == 2
    assert ".png, .npy, .npz" in result.output
    assert script.requests == []


def png(width: int, height: int, pixels: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    end = chunk(b"IEND", b"")
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", compress(pixels)) + end


@pytest.mark.parametrize("kind", ["empty", "bomb", "crc", "jpeg", "deflate", "method", "encrypted"])
def test_damaged_files_are_one_line(script: Script, tmp_path: Path, kind: str) -> None:
    good, archive, jpeg = png(3, 2, b"\0abc\0def"), io.BytesIO(), io.BytesIO()
    np.savez_compressed(archive, x=pictures(50))
    Image.effect_noise((3, 2), 90).save(jpeg, "JPEG")
    zipped = archive.getvalue()
    data = zipped.find(b"x.npy") + 5 + struct.unpack("<H", zipped[28:30])[0]
    central = zipped.find(b"PK\x01\x02")
    name, content = {
        "empty": ("x.npy", b""),
        "bomb": ("x.png", png(60_000, 60_000, bytes(60_001))),
        "crc": ("x.png", good.replace(b"IDAT", b"IDAU", 1)),
        "jpeg": ("x.jpg", jpeg.getvalue()[:-8]),
        "deflate": ("x.npz", zipped[:data] + b"\xff" * 40 + zipped[data + 40 :]),
        "method": ("x.npz", zipped[: central + 10] + b"\x63\0" + zipped[central + 12 :]),
        "encrypted": ("x.npz", zipped[: central + 8] + b"\x01\0" + zipped[central + 10 :]),
    }[kind]
    (tmp_path / name).write_bytes(content)
    call = (script.address, "--model", "digits", "-o", tmp_path / "y.npy")
    result = vaeserve("reconstruct", *call, tmp_path / name)
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1
    assert "that can be read" in result.output


def test_suffixes_in_capitals(script: Script, tmp_path: Path) -> None:
    Image.fromarray(LEVELS).save(tmp_path / "X.PNG")
    call = (script.address, "--model", "digits", "-o")
    ran("encode", *call, tmp_path / "Q.NPZ", tmp_path / "X.PNG")
    ran("interpolate", *call, tmp_path / "W.PNG", *[tmp_path / "Q.NPZ"] * 2, "--steps", 4)
    ran("decode", *call, tmp_path / "Y.NPY", tmp_path / "Q.NPZ")
    assert np.load(tmp_path / "Y.NPY").shape == (1, 2, 3)
    assert {path.name for path in tmp_path.iterdir()} == {"X.PNG", "Q.NPZ", "W.PNG", "Y.NPY"}


@pytest.mark.parametrize("suffix", ["png", "npy", "npz"])
def test_a_file_that_cannot_be_written(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    def full(*_: object) -> object:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    out = tmp_path / f"x.{suffix}"
    result = vaeserve("sample", script.address, "--model", "digits", "--seed", 1, "-o", out)
    assert result.exit_code == 1
    assert result.output == f"Error: {out} cannot be written: No space left on device\n"


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
    assert "Say where the result goes" in vaeserve("score", *call[:-2], "--format", "csv").output
    assert "must end in .npz, .csv, or" in vaeserve("score", *call[:-1], tmp_path / "y.txt").output
    assert script.requests == []


def test_sample_of_the_fitted_prior(script: Script, tmp_path: Path) -> None:
    call = (script.address, "--model", "digits", "--seed", 7, "-o", tmp_path / "x.npy")
    ran("sample", *call, "--prior", "fitted", "-n", 3)
    (sent,) = script.sent(pb.SampleRequest)
    assert sent.prior == pb.PRIOR_FITTED
