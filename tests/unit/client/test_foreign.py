"""Tensors of PyTorch and pictures of Pillow as inputs, and that neither is imported for it."""

import dataclasses
import io
import re
import subprocess
import sys
from typing import Any

import numpy as np
import PIL.ImageOps
import pytest
import torch
from PIL import Image

from unit.client.test_inputs import info
from vaeserve import InvalidInput, Latents, _inputs

GREY = dataclasses.replace(info(), input_shape=(1, 2, 3))
RGB = dataclasses.replace(info(), input_shape=(3, 2, 3))
RGBA = dataclasses.replace(info(), input_shape=(4, 2, 3))
LEVELS = np.random.default_rng(0).integers(0, 256, (4, 2, 3, 3), np.uint8)


def test_tensors_are_arrays() -> None:
    x = torch.rand(5, 1, 2, 3, requires_grad=True)
    np.testing.assert_array_equal(_inputs.pictures(x, GREY), x.detach().numpy())
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        assert _inputs.pictures(x.to(dtype), GREY).dtype == np.float32
    levels = torch.randint(0, 256, (5, 1, 2, 3), dtype=torch.uint8)
    assert _inputs.pictures(levels, GREY).dtype == np.uint8
    rows = _inputs.pictures([row for row in x], GREY)  # noqa: C416  a list of tensors
    np.testing.assert_array_equal(rows, x.detach().numpy())
    with pytest.raises(InvalidInput, match="uint8 levels"):
        _inputs.pictures(levels.long(), GREY)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.rand(2, 3).to_sparse(), "numpy makes no array of this: .*dense"),
        ([torch.rand(2, 3), torch.rand(3, 3)], "numpy makes no array of this"),
        ([[torch.rand(2, 3, requires_grad=True)]], "numpy makes no array of this: .*detach"),
    ],
)
def test_tensors_that_are_no_arrays_are_refused(value: Any, message: str) -> None:
    for refused in (
        lambda: _inputs.pictures(value, GREY),
        lambda: _inputs.latents(value, GREY),
        lambda: _inputs.ends(value, value, GREY),
        lambda: Latents(value),
    ):
        with pytest.raises(InvalidInput, match=message):
            refused()


def test_tensors_may_stand_among_arrays() -> None:
    rows: Any = [np.zeros((2, 3), np.float32), torch.ones(2, 3, requires_grad=True)]
    np.testing.assert_array_equal(_inputs.pictures(rows, GREY)[:, 0, 0, 0], [0, 1])


def test_a_dtype_of_torch_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"float32 or uint8, not as torch\.uint8"):
        _inputs.picture_type(torch.uint8, GREY)  # type: ignore[arg-type]  # what people try


def test_tensors_are_latents() -> None:
    z = torch.randn(5, 4, requires_grad=True)
    np.testing.assert_array_equal(_inputs.latents(z, GREY), z.detach().numpy())
    np.testing.assert_array_equal(Latents(z, "space-a"), z.detach().numpy())


def test_pictures_are_levels() -> None:
    many = [Image.fromarray(levels) for levels in LEVELS]
    np.testing.assert_array_equal(_inputs.pictures(many, RGB), LEVELS.transpose(0, 3, 1, 2))
    one = _inputs.pictures(many[0], RGB)
    np.testing.assert_array_equal(one, LEVELS[:1].transpose(0, 3, 1, 2))
    assert one.dtype == np.uint8


def noted(orientation: int, picture: Image.Image) -> Image.Image:
    """The picture as a file of a camera that was held in that way."""
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    picture.save(file, "PNG", exif=exif)
    return Image.open(file)


def test_pictures_are_taken_upright() -> None:
    upright = LEVELS[0].transpose(2, 0, 1)
    for orientation, stored in (
        (1, LEVELS[0]),
        (3, np.rot90(LEVELS[0], 2)),
        (6, np.rot90(LEVELS[0])),
    ):
        picture = noted(orientation, Image.fromarray(stored))
        np.testing.assert_array_equal(_inputs.pictures([picture], RGB)[0], upright)
        turned = PIL.ImageOps.exif_transpose(picture)
        np.testing.assert_array_equal(_inputs.pictures(turned, RGB)[0], upright)
        assert picture.getexif()[0x0112] == orientation  # the caller's is left as it was


@pytest.mark.parametrize("shape", [(1, 2, 3), (2, 3)])
def test_colour_becomes_grey_and_grey_is_repeated(shape: tuple[int, ...]) -> None:
    model = dataclasses.replace(GREY, input_shape=shape)
    coloured = Image.fromarray(LEVELS[0])
    luma = np.asarray(coloured.convert("L"))
    np.testing.assert_array_equal(_inputs.pictures(coloured, model)[0].reshape(2, 3), luma)
    grey = _inputs.pictures(coloured.convert("L"), RGB)
    np.testing.assert_array_equal(grey[0], [luma] * 3)
    black_and_white = Image.fromarray(LEVELS[0, ..., 0] > 127)
    assert set(np.unique(_inputs.pictures(black_and_white, model))) <= {0, 255}


def test_opaque_alpha_is_left_out_and_transparency_refused() -> None:
    opaque = Image.fromarray(LEVELS[0]).convert("RGBA")
    np.testing.assert_array_equal(_inputs.pictures(opaque, RGB)[0], LEVELS[0].transpose(2, 0, 1))
    opaque.putalpha(254)
    with pytest.raises(InvalidInput, match="partly transparent"):
        _inputs.pictures(opaque, RGB)


def test_a_model_of_four_channels_takes_transparency() -> None:
    clear = Image.fromarray(LEVELS[0])
    clear.putalpha(Image.fromarray(LEVELS[1, ..., 0]))
    channels = [*LEVELS[0].transpose(2, 0, 1), LEVELS[1, ..., 0]]
    np.testing.assert_array_equal(_inputs.pictures(clear, RGBA)[0], channels)
    grey = Image.fromarray(LEVELS[0, ..., 0])
    opaque = [*[LEVELS[0, ..., 0]] * 3, np.full((2, 3), 255)]
    np.testing.assert_array_equal(_inputs.pictures(grey, RGBA)[0], opaque)


def truncated() -> Image.Image:
    """A picture whose file ends too early, as it is opened."""
    file = io.BytesIO()
    Image.fromarray(LEVELS[0]).save(file, "BMP")
    return Image.open(io.BytesIO(file.getvalue()[:-9]))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Image.new("RGB", (2, 3)), "the picture is 2x3, 'digits' takes 3x2: PIL.ImageOps.fit"),
        ([Image.new("L", (3, 2)), Image.new("L", (9, 9))], "picture 1 is 9x9"),
        (Image.new("I;16", (3, 2)), "more than 8 bits"),
        (Image.new("F", (3, 2)), "more than 8 bits"),
        (Image.new("LAB", (3, 2)), "mode LAB, of which Pillow makes no L: convert it to RGB"),
        (
            Image.new("La", (3, 2)),
            "mode La, of which Pillow makes no RGBA: convert it to RGB or LA",
        ),
        (truncated(), "the picture cannot be read: image file is truncated"),
        ([Image.new("L", (3, 2)), np.zeros((1, 2, 3))], "pictures alone, or arrays alone"),
    ],
)
def test_other_pictures_are_refused_with_what_to_do(value: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        _inputs.pictures(value, GREY)


def test_what_is_advised_makes_it_fit() -> None:
    """The expressions of the errors, run."""
    picture, levels = Image.new("RGB", (40, 30)), np.zeros((30, 40, 3), np.uint8)
    turned = noted(6, picture)
    x = np.zeros((5, 2, 3, 3), np.float32)
    for value, names in (
        (picture, {"picture": picture}),
        (turned, {"picture": turned}),
        (np.zeros((5, 3, 30, 40), np.uint8), {"levels": levels}),
        (x, {"x": x}),
        (x.reshape(5, -1), {"x": x.reshape(5, -1)}),
    ):
        with pytest.raises(InvalidInput) as refused:
            _inputs.pictures(value, RGB)
        advice = re.search(r"(PIL|numpy|x\.).*\)", str(refused.value))
        assert advice
        fitting = eval(advice.group(), {"PIL": PIL, "numpy": np} | names)  # noqa: S307
        assert _inputs.pictures(fitting, RGB).shape[1:] == (3, 2, 3)


def test_no_advice_where_it_would_be_a_guess() -> None:
    vectors = info(levels=False)
    for value, model in ((np.zeros((5, 9, 9)), vectors), (np.zeros((5, 2, 3)), RGB), (0.0, GREY)):
        with pytest.raises(InvalidInput, match=r"got \[[\d, ]*\]$"):
            _inputs.pictures(value, model)


def test_a_model_of_vectors_takes_no_pictures() -> None:
    for model in (info(levels=False), dataclasses.replace(info(), input_shape=(6,))):
        with pytest.raises(InvalidInput, match="no 8-bit pictures"):
            _inputs.pictures(Image.new("L", (3, 2)), model)


def test_ends_of_a_path_may_be_either() -> None:
    first, last = (Image.fromarray(levels) for levels in LEVELS[:2])
    pair = _inputs.ends(first, last, RGB)
    assert pair.single
    assert not _inputs.ends([first], [last], GREY).single
    tensors = _inputs.ends(torch.rand(1, 2, 3), torch.rand(1, 2, 3), GREY)
    assert tensors.single


def test_neither_is_imported() -> None:
    code = (
        "import sys, numpy as np; from vaeserve import Latents; Latents(np.zeros(3));"
        "print({'torch', 'PIL'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
