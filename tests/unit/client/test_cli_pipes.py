"""The command line in pipes and shells: bytes, JSON, completion, and names spelt wrong."""

import io
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from unit.client.command_line import vaeserve
from unit.client.scripted_model import pictures
from unit.client.scripted_server import Script
from vaeserve import Client, _cli, _delivery


def piped(*arguments: object, stdin: bytes = b"") -> bytes:
    result = vaeserve(*arguments, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result.stdout_bytes


def npy(array: object) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(array))
    return file.getvalue()


def test_a_pipe_from_encode_to_decode(script: Script) -> None:
    x = pictures(3)
    latents = piped("encode", script.address, "-", "-o", "-", stdin=npy(x))
    with np.load(io.BytesIO(latents)) as q:
        assert str(q["latent_space_id"]) == "space-a"
    out = piped("decode", script.address, "-", "-o", "-", "--format", "npy", stdin=latents)
    with Client(script.address) as client:
        expected = client.model("digits").reconstruct(x)
    np.testing.assert_array_equal(np.load(io.BytesIO(out)), expected)


def test_a_picture_through_a_pipe(script: Script) -> None:
    levels = np.rint(pictures(1)[0] * 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "PNG")
    out = piped("reconstruct", script.address, "-", "-o", "-", stdin=file.getvalue())
    with Client(script.address) as client, Image.open(io.BytesIO(out)) as picture:
        expected = client.model("digits").reconstruct(levels, dtype=np.uint8)[0]
        np.testing.assert_array_equal(np.asarray(picture), expected)


def test_a_process_of_its_own_writes_nothing_but_the_bytes(script: Script) -> None:
    command = [sys.executable, "-m", "vaeserve", "sample", script.address, "-n", "2", "-o", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    with Image.open(io.BytesIO(done.stdout)) as grid:
        assert grid.size == (2 * 3 + 2, 2)
    assert done.stderr.splitlines()[-1].startswith(b"seed ")


def test_an_empty_pipe(script: Script) -> None:
    result = vaeserve("encode", script.address, "-", "--json")
    assert (result.exit_code, result.output) == (
        1,
        "Error: standard input is no .png, .jpg, .npy or .npz that can be read\n",
    )


def test_bytes_are_kept_from_a_terminal(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = SimpleNamespace(isatty=lambda: True)
    monkeypatch.setattr(_delivery, "sys", SimpleNamespace(stdout=terminal))
    result = vaeserve("sample", script.address, "-o", "-")
    assert result.exit_code == 2
    assert "terminal" in result.output
    assert script.requests == []
    columns = ("score", script.address, "-", "-o", "-", "--format", "csv")
    assert piped(*columns, stdin=npy(pictures(2))).count(b"\n") == 3  # which a terminal can show


def test_json_holds_the_whole_result(script: Script) -> None:
    drawn = json.loads(piped("sample", script.address, "-n", "3", "--seed", "7", "--json"))
    with Client(script.address) as client:
        expected = client.model("digits").sample(3, seed=7, latents=True)
    assert set(drawn) == {"x_hat", "latents", "seed", "latent_space_id"}
    assert (drawn["seed"], drawn["latent_space_id"]) == (7, "space-a")
    # As many digits as give the same float32 again, and no more.
    np.testing.assert_array_equal(np.float32(drawn["latents"]), np.asarray(expected.latents))
    assert max(len(str(value)) for value in np.ravel(drawn["latents"])) <= len("-1.2345678e-08")
    q = json.loads(piped("encode", script.address, "-", "--json", stdin=npy(pictures(1))))
    assert q["draws"] is None
    assert np.shape(q["mu"]) == (1, 4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "-o FILE"),
        (("--json", "-o", "x.npy"), "leave -o"),
        (("-o", "no/such/x.png"), "'no/such' does not exist"),
        (("-o", "x.jpg"), "must end in .png, .npy, .npz"),
        (("-o", "x.npy", "--columns", "3"), "--columns lays out a .png"),
    ],
)
def test_where_the_result_goes_is_settled_before_the_call(
    script: Script, options: tuple[str, ...], words: str
) -> None:
    result = vaeserve("sample", script.address, *options)
    assert result.exit_code == 2
    assert words in result.output
    assert script.requests == []


def test_format_decides_where_no_suffix_does(script: Script, tmp_path: Path) -> None:
    piped("sample", script.address, "-n", "4", "-o", tmp_path / "x", "--format", "npy")
    assert np.load(tmp_path / "x").shape == (4, 2, 3)


def test_columns_of_a_grid(script: Script, tmp_path: Path) -> None:
    call = ("sample", script.address, "-n", "4", "-o", tmp_path / "x.png", "--columns")
    for columns, size in ((4, (4 * 3 + 3 * 2, 2)), (1, (3, 4 * 2 + 3 * 2)), (9, (18, 2))):
        piped(*call, columns)
        with Image.open(tmp_path / "x.png") as grid:
            assert grid.size == size


def test_several_files_are_one_batch(script: Script, tmp_path: Path) -> None:
    x = pictures(3)
    np.save(tmp_path / "a.npy", x[0])
    np.save(tmp_path / "b.npy", x[1:])
    files = (tmp_path / "a.npy", tmp_path / "b.npy")
    out = piped("reconstruct", script.address, *files, "-o", "-", "--format", "npy")
    with Client(script.address) as client:
        expected = client.model("digits").reconstruct(x)
    np.testing.assert_array_equal(np.load(io.BytesIO(out)), expected)
    np.save(tmp_path / "b.npy", (x * 255).astype(np.uint8))
    result = vaeserve("reconstruct", script.address, *files, "--json")
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "levels" in result.output
    np.save(tmp_path / "b.npy", x[..., 0])
    told = vaeserve("reconstruct", script.address, *files, "--json").output
    assert told.startswith(f"Error: {files[1]}: 'digits' takes input rows of shape")


def test_floats_of_any_width_are_one_batch(script: Script, tmp_path: Path) -> None:
    x = pictures(2)
    files = (tmp_path / "a.npy", tmp_path / "b.npy")
    for file, dtype in zip(files, (np.float32, np.float64), strict=True):
        np.save(file, x.astype(dtype))
    out = piped("reconstruct", script.address, *files, "-o", "-", "--format", "npy")
    assert np.load(io.BytesIO(out)).shape == (4, 2, 3)


@pytest.mark.parametrize(
    "words", [("encode", "ADDRESS", "-", "-"), ("interpolate", "ADDRESS", "-", "-")]
)
def test_standard_input_is_read_once(script: Script, words: tuple[str, ...]) -> None:
    command, _, *rest = words
    result = vaeserve(command, script.address, *rest, "--json", stdin=npy(pictures(1)))
    assert result.exit_code == 2
    assert "only one IN can be -" in result.output
    assert script.requests == []


@pytest.mark.parametrize("name", ["picture", "x.png", "x.jpg", "X.JPEG"])
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_file_is_what_its_first_bytes_say(
    script: Script, tmp_path: Path, name: str, form: str
) -> None:
    levels = np.rint(pictures(1)[0] * 255).astype(np.uint8)
    with (tmp_path / name).open("wb") as file:
        Image.fromarray(levels).save(file, form)
    told = json.loads(piped("encode", script.address, tmp_path / name, "--json"))
    with Client(script.address) as client, Image.open(tmp_path / name) as picture:
        expected = client.model("digits").encode(np.asarray(picture)).mu
    np.testing.assert_array_equal(np.float32(told["mu"]), expected)


def test_another_picture_is_refused(script: Script, tmp_path: Path) -> None:
    Image.new("L", (3, 2)).save(tmp_path / "x.gif")
    result = vaeserve("encode", script.address, tmp_path / "x.gif", "--json")
    assert "x.gif is no .png, .jpg, .npy or .npz that can be read" in result.output


def test_a_picture_is_taken_the_way_up_that_its_camera_noted(
    script: Script, tmp_path: Path
) -> None:
    picture = Image.fromarray(np.rint(pictures(1)[0] * 255).astype(np.uint8))
    noted = Image.Exif()
    noted[0x0112] = 6  # to be turned by a quarter, clockwise
    for name, exif in (("up.png", None), ("lying.png", noted)):
        stored = picture if exif is None else picture.rotate(90, expand=True)
        stored.save(tmp_path / name, exif=exif)
    up, lying = (
        piped("encode", script.address, tmp_path / name, "--json")
        for name in ("up.png", "lying.png")
    )
    assert up == lying


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("encode", ("--draws", "2")),
        ("reconstruct", ("--draw",)),
        ("score", ("--draws", "2")),
    ],
)
def test_a_seed_that_was_not_chosen_is_told_and_repeats_the_draw(
    script: Script, command: str, options: tuple[str, ...]
) -> None:
    call, x = (command, script.address, "-", "--json"), npy(pictures(2))
    first = vaeserve(*call, *options, stdin=x)
    word, seed = first.stderr.split()
    assert (word, int(seed)) == ("seed", json.loads(first.stdout)["seed"])
    again = vaeserve(*call, *options, "--seed", seed, stdin=x)
    assert (again.stdout, again.stderr) == (first.stdout, "")
    plain = vaeserve(*call, stdin=x)  # draws nothing
    assert (plain.exit_code, plain.stderr) == (0, "")


def test_latents_are_known_by_their_shape(script: Script) -> None:
    with Client(script.address) as client:
        digits = client.model("digits")
        z = digits.encode(pictures(2)).mu
        edited = digits.edit(z, {"smile": 2})
    out = vaeserve("edit", script.address, "-", "smile=2", "--json", stdin=npy(z))
    assert out.exit_code == 0, out.output
    np.testing.assert_array_equal(np.float32(json.loads(out.stdout)["x_hat"]), edited)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("encoed", "ADDRESS"), "No such command 'encoed'. Did you mean 'encode' or 'decode'?"),
        (("sample", "ADDRESS", "--temprature", "2"), "Did you mean '--temperature'?"),
        (("sample", "ADDRESS", "--json", "--model", "digit"), "Did you mean 'digits'?"),
        (("sample", "ADDRESS", "--json", "--model", "cats"), "Known: 'digits', 'faces'."),
        (("edit", "ADDRESS", "--json", "-", "smiel=1"), "no attribute 'smiel'. Did you mean 'smil"),
    ],
)
def test_the_nearest_name(script: Script, arguments: tuple[str, ...], hint: str) -> None:
    result = vaeserve(*(script.address if word == "ADDRESS" else word for word in arguments))
    assert result.exit_code != 0
    assert hint in result.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_call_back(shell: str) -> None:
    script = piped("completion", shell).decode()
    assert f"_VAESERVE_COMPLETE={shell}_complete" in script


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["vaeserve", "enc"], "encode"),
        (["vaeserve", "sample", "ADDRESS", "--temp"], "--temperature"),
        (["vaeserve", "sample", "ADDRESS", "--model", "di"], "digits"),
        (["vaeserve", "sample", "127.0.0.1:1", "--model", "di"], None),
        (["vaeserve", "encode", "ADDRESS", "-", "--dra"], "--draws"),
    ],
)
def test_what_a_shell_is_told(script: Script, words: list[str], expected: str | None) -> None:
    line = " ".join(words).replace("ADDRESS", script.address)
    environment = {"_VAESERVE_COMPLETE": "bash_complete"}
    environment |= {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    result = CliRunner().invoke(_cli.main, [], env=environment, prog_name="vaeserve")
    told = [told.split(",")[1] for told in result.output.split()]
    assert told == ([expected] if expected else [])
