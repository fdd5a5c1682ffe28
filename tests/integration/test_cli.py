"""The commands of the client against a real server, in pipes as people write them."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from support.repositories import ROW_SHAPES
from support.servers import running_app
from unit.client.command_line import in_shell
from vaeserve import Client
from vaeserve._cli import main
from vaeserve_export.bundling.of_run import export_run
from vaeserve_export.data.dataset import Dataset
from vaeserve_export.training.settings import TrainSettings
from vaeserve_export.training.train import train


def shell(line: str, **values: object) -> str:
    """What a line in a shell prints that must succeed."""
    done = in_shell(f"set -o pipefail; {line}", **values)
    assert done.returncode == 0, done.stderr
    return done.stdout


def printed(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_latents_and_pictures_go_through_pipes(
    address: str, client: Client, tmp_path: Path
) -> None:
    x = np.random.default_rng(0).random((5, *ROW_SHAPES["digits"]), np.float32)
    np.save(tmp_path / "x.npy", x)
    call = '"$A" --model digits'
    shell(
        f'vaeserve encode {call} - -o - < "$D/x.npy" | vaeserve decode {call} - -o "$D/y.npy"',
        A=address,
        D=tmp_path,
    )
    np.testing.assert_array_equal(
        np.load(tmp_path / "y.npy"), client.model("digits").reconstruct(x)
    )
    shell(f'vaeserve sample {call} -n 6 --columns 3 -o - > "$D/s.png"', A=address, D=tmp_path)
    with Image.open(tmp_path / "s.png") as grid:
        assert grid.size == (3 * 8 + 2 * 2, 2 * 8 + 2)


def test_two_pipes_are_walked_between(address: str, client: Client, tmp_path: Path) -> None:
    digits = client.model("digits")
    a, b = (digits.sample(1, seed=seed, dtype=np.uint8).pictures[0] for seed in (1, 2))
    Image.fromarray(a[0]).save(tmp_path / "a.png")
    Image.fromarray(b[0]).save(tmp_path / "b.png")
    call = '"$A" --model digits'
    told = shell(
        f'vaeserve interpolate {call} --json --steps 3 <(cat "$D/a.png") <(cat "$D/b.png")',
        A=address,
        D=tmp_path,
    )
    walk = digits.interpolate(a, b, steps=3)
    np.testing.assert_array_equal(np.float32(json.loads(told)["x_hat"]), walk)


def test_rows_that_are_no_pictures_make_no_png(address: str) -> None:
    call = ("sample", address, "--model", "vectors", "-n", "2", "-o", "-")
    result = CliRunner().invoke(main, call)
    assert (result.exit_code, result.output) == (
        1,
        "Error: the rows of 'vectors' are no pictures: write them to a .npy or .npz, "
        "or pipe them with --format npy\n",
    )
    assert CliRunner().invoke(main, [*call, "--format", "npy"]).exit_code == 0


def test_every_model_is_in_the_table(address: str, client: Client) -> None:
    heading, *lines = printed("models", address).splitlines()
    assert heading.split() == shlex.split(
        "MODEL VERSION READY INPUT LATENT LIKELIHOOD PRECISION SIZE"
    )
    assert [line.split()[:4] for line in lines] == [
        ["digits", "1", "yes", "1x8x8"],
        ["rgb", "1", "yes", "3x9x11"],
        ["vectors", "1", "yes", "6"],
    ]
    first = json.loads(printed("models", address, "--json"))[0]
    info = client.model("digits").info
    assert first["size_bytes"] == sum(file.size_bytes for file in info.manifest.files) > 1000


def test_scores_and_edits(address: str, client: Client, tmp_path: Path) -> None:
    digits = client.model("digits")
    x = digits.sample(3, seed=1)
    np.save(tmp_path / "x.npy", x)
    call = (address, "--model", "digits", "--json", tmp_path / "x.npy")
    scores = json.loads(printed("score", *call))
    np.testing.assert_array_equal(
        np.float32(scores["negative_elbo"]), digits.score(x).negative_elbo
    )
    name = digits.info.attributes[0].name
    edited = json.loads(printed("edit", *call, f"{name}=2"))
    np.testing.assert_array_equal(np.float32(edited["x_hat"]), digits.edit(x, {name: 2}))


def test_every_command_takes_pictures(address: str, client: Client, tmp_path: Path) -> None:
    digits = client.model("digits")
    levels = digits.sample(2, seed=3, dtype=np.uint8).pictures
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for file, picture in zip(files, levels, strict=True):
        Image.fromarray(picture[0]).save(file)

    def called(command: str, *words: object) -> dict[str, list[float]]:
        told = printed(command, address, "--model", "digits", "--json", *words)
        held: dict[str, list[float]] = json.loads(told)
        return held

    def same(told: list[float], expected: Any) -> None:
        np.testing.assert_array_equal(np.asarray(told, np.float32), expected)

    name = digits.info.attributes[0].name
    same(called("encode", *files)["mu"], digits.encode(levels).mu)
    same(called("reconstruct", *files)["x_hat"], digits.reconstruct(levels))
    same(called("score", *files)["kl"], digits.score(levels).kl)
    same(called("edit", files[0], f"{name}=2")["x_hat"], digits.edit(levels[:1], {name: 2}))
    walk = digits.interpolate(*levels, steps=4, path="slerp")
    words = ("--steps", 4, "--path", "slerp")
    same(called("interpolate", *files, *words)["x_hat"], walk)


LEVELS = np.random.default_rng(0).integers(0, 256, (11, 11, 4), np.uint8)
COLOURED = Image.fromarray(LEVELS[..., :3])
OPAQUE = Image.fromarray(np.dstack([LEVELS[..., :3], np.full((11, 11), 255, np.uint8)]))


@pytest.mark.parametrize(
    "picture",
    [
        COLOURED,
        COLOURED.convert("L"),
        OPAQUE,
        OPAQUE.convert("LA"),
        COLOURED.quantize(16),
        COLOURED.convert("1"),
    ],
    ids=lambda picture: picture.mode,
)
@pytest.mark.parametrize(("model", "mode"), [("digits", "L"), ("rgb", "RGB")])
def test_a_png_of_any_colours_is_what_the_sdk_makes_of_it(
    address: str, client: Client, tmp_path: Path, picture: Image.Image, model: str, mode: str
) -> None:
    handle = client.model(model)
    *_, height, width = handle.info.input_shape
    fitting = picture.crop((0, 0, width, height))
    fitting.save(tmp_path / "x.png")
    told = json.loads(printed("encode", address, "--model", model, "--json", tmp_path / "x.png"))
    mu = np.float32(told["mu"])
    np.testing.assert_array_equal(mu, handle.encode(fitting).mu)
    # By hand, too: luminance for a grey model, grey repeated for one of colour.
    levels = np.asarray(fitting.convert("RGB").convert(mode))
    rows = levels if mode == "L" else np.moveaxis(levels, -1, 0)
    np.testing.assert_array_equal(mu, handle.encode(rows).mu)


def test_a_png_that_would_have_to_be_changed_is_refused_with_what_to_do(
    address: str, tmp_path: Path
) -> None:
    call = ("encode", address, "--model", "digits", "--json", str(tmp_path / "x.png"))
    for picture, advice in (
        (COLOURED, "is 11x11, 'digits' takes 8x8: PIL.ImageOps.fit(picture, (8, 8)) makes it fit"),
        (Image.new("RGBA", (8, 8)), "is partly transparent: lay it over a background first"),
    ):
        picture.save(tmp_path / "x.png")
        result = CliRunner().invoke(main, call)
        assert (result.exit_code, result.output) == (1, f"Error: {call[-1]} {advice}\n")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("sample", "--model", "digit"), "Did you mean 'digits'?"),
        (("sample",), "Say which model with --model NAME; ready here: digits, rgb, vectors."),
    ],
)
def test_a_model_that_is_not_named_right(
    address: str, arguments: tuple[str, ...], hint: str
) -> None:
    command, *rest = arguments
    result = CliRunner().invoke(main, [command, address, *rest, "--json"])
    assert result.exit_code != 0
    assert hint in result.output


def test_white_is_white_whatever_the_levels_of_a_model(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    drawn = (rng.random((64, 1, 6, 6)) < 0.5).astype(np.float32)
    for name, level in (("binary", 1.0), ("usual", 1 / 255)):
        run = tmp_path / name
        train(TrainSettings(epochs=1, hidden=8), Dataset(drawn, None, level=level, name=name), run)
        export_run(run, tmp_path / "repository", name)
    Image.fromarray(drawn[0, 0].astype(np.uint8) * 255).save(tmp_path / "in.png")

    grids, scores = [], []
    with running_app(tmp_path / "repository") as app:
        at = f"127.0.0.1:{app.port}"
        for name in ("binary", "usual"):
            here = (at, "--model", name)
            printed("sample", *here, "-n", 1, "--seed", 5, "-o", tmp_path / "s.png")
            with Image.open(tmp_path / "s.png") as grid:
                grids.append(np.asarray(grid))
            printed("score", *here, tmp_path / "in.png", "-o", tmp_path / "s.npz")
            with np.load(tmp_path / "s.npz") as archive:
                scores.append(archive["negative_elbo"])
    np.testing.assert_array_equal(grids[0], grids[1])  # trained alike, but for what a level is
    np.testing.assert_array_equal(scores[0], scores[1])
    assert np.ptp(grids[0]) > 2  # grey, not steps of the model's two levels
