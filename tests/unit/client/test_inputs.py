"""What is accepted as pictures and latents, and how refusals are worded."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from unit.client import scripted_model, scripted_server
from vaeserve import (
    InvalidInput,
    Latents,
    Limits,
    ModelInfo,
    Posterior,
    Preprocessing,
    _inputs,
    _latent_requests,
    _requests,
)
from vaeserve.v1 import model_pb2, tensor_pb2, vae_service_pb2 as pb
from vaeserve.v1.arrays import from_tensor


def info(*, levels: bool = True) -> ModelInfo:
    return ModelInfo(
        name="digits",
        version=1,
        input_shape=(2, 3),
        latent_shape=(4,),
        latent_space_id="space-a",
        likelihood="bernoulli",
        gaussian_variance=0,
        preprocessing=Preprocessing(1 / 255, 0) if levels else None,
        precision="float32",
        attributes=(),
        prior=None,
        columns=(),
        latent_statistics=None,
        device_numerics=(),
        limits=Limits(max_rows=8, max_draws=64, max_message_bytes=1 << 20),
        manifest=model_pb2.ModelInfo(),
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.bool_])
def test_floats_and_bools_become_float32(dtype: Any) -> None:
    assert _inputs.pictures(np.ones((5, 2, 3), dtype), info()).dtype == np.float32


def test_float32_and_uint8_are_not_copied() -> None:
    for dtype in (np.float32, np.uint8):
        x = np.ones((5, 2, 3), dtype)
        assert np.shares_memory(_inputs.pictures(x, info()), x)


def test_lists_are_arrays() -> None:
    assert _inputs.pictures([[[0.0] * 3] * 2], info()).shape == (1, 2, 3)


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint16, np.complex64, np.str_, object])
def test_other_dtypes_say_what_to_pass(dtype: Any) -> None:
    with pytest.raises(ValueError, match=r"uint8 levels 0\.\.255, or floats"):
        _inputs.pictures(np.zeros((1, 2, 3)).astype(dtype), info())


def test_levels_need_a_model_of_pictures() -> None:
    with pytest.raises(InvalidInput, match="no pictures"):
        _inputs.pictures(np.zeros((1, 2, 3), np.uint8), info(levels=False))
    with pytest.raises(InvalidInput, match="no pictures"):
        _inputs.picture_type(np.uint8, info(levels=False))


def test_picture_type() -> None:
    assert _inputs.picture_type(np.float32, info()) == tensor_pb2.DATA_TYPE_FLOAT32
    assert _inputs.picture_type("uint8", info()) == tensor_pb2.DATA_TYPE_UINT8
    with pytest.raises(InvalidInput, match="float64"):
        _inputs.picture_type(np.float64, info())
    with pytest.raises(InvalidInput, match="float32 or uint8, not as 'levels'"):
        _inputs.picture_type("levels", info())


def test_a_wrong_shape_names_both() -> None:
    with pytest.raises(InvalidInput, match=r"input rows of shape \[rows, 2, 3\], got \[5, 3, 2\]"):
        _inputs.pictures(np.zeros((5, 3, 2)), info())
    with pytest.raises(InvalidInput, match=r"latent rows of shape \[rows, 4\], got \[5\]"):
        _inputs.latents(np.zeros(5), info())
    with pytest.raises(InvalidInput, match="no rows"):
        _inputs.pictures(np.zeros((0, 2, 3)), info())


def test_plain_latents_among_pictures_get_a_hint() -> None:
    with pytest.raises(InvalidInput, match=r"wrap them in vaeserve\.Latents"):
        _inputs.ends(np.zeros((5, 4)), np.zeros((5, 4)), info())


@pytest.mark.parametrize("rows", [np.zeros(4), np.zeros((1, 4)), np.zeros((1, 4), np.float32)])
def test_latents_are_sent_with_their_id(rows: Any) -> None:
    for z, space in ((Latents(rows, "space-b"), "space-b"), (rows, "")):
        plan = _requests.decode(info(), 0, z, dtype=np.float32)
        request = plan.build(plan.parts[0])
        assert request.latent_space_id == space
        assert from_tensor(request.latents).shape == (1, 4)


def test_a_list_of_latents_is_latents_of_its_space() -> None:
    rows = [Latents(np.full(4, value), "space-b") for value in (1, 2)]
    mixed: list[Any] = [*rows, np.zeros(4)]
    plan = _requests.decode(info(), 0, mixed, dtype=np.float32)
    request = plan.build(plan.parts[0])
    assert request.latent_space_id == "space-b"
    np.testing.assert_array_equal(from_tensor(request.latents)[:, 0], [1, 2, 0])
    ends = _inputs.ends(rows, rows[::-1], info())
    assert (ends.space, ends.latent_space_id) == (pb.INTERPOLATION_SPACE_LATENT, "space-b")
    assert (ends.start[0, 0], ends.end[0, 0], ends.single) == (1, 2, False)
    edited = _latent_requests.edit(
        info(), 0, rows, {"smile": 1.0}, preserve=(), latents=False, dtype=np.float32
    )
    edit = edited.build(edited.parts[0])
    assert (edit.WhichOneof("rows"), edit.latent_space_id) == ("latents", "space-b")


def test_a_list_of_latents_of_two_spaces_or_shapes_is_refused() -> None:
    one = Latents(np.zeros(4), "space-a")
    for other, message in (
        (Latents(np.zeros(4), "space-b"), "two different models"),
        (Latents(np.zeros(3), "space-a"), "numpy makes no array"),
    ):
        for refused in (
            lambda rows: _inputs.latents(rows, info()),
            lambda rows: _inputs.ends(rows, rows, info()),
        ):
            with pytest.raises(InvalidInput, match=message):
                refused([one, other])


def test_ragged_lists_are_refused() -> None:
    for refused in (
        lambda: _inputs.pictures([[1.0], [1.0, 2.0]], info()),
        lambda: _inputs.latents([[1.0], [1.0, 2.0]], info()),
        lambda: _inputs.ends([[1.0], [1.0, 2.0]], [[1.0], [1.0, 2.0]], info()),
    ):
        with pytest.raises(InvalidInput, match=r"numpy makes no array of this: .*inhomogeneous"):
            refused()


def test_latents_are_floats() -> None:
    with pytest.raises(InvalidInput, match="pass floats"):
        _inputs.latents(np.zeros(4, int), info())


def test_a_posterior_is_no_latent_and_says_what_to_pass() -> None:
    rows = Latents(np.zeros((1, 4)), "space-a")
    posterior = Posterior(rows, rows, None, None, 0, 1)
    with pytest.raises(InvalidInput, match="pass its mu"):
        _inputs.latents(posterior, info())  # type: ignore[arg-type]  # what people try


def test_a_model_tells_what_it_is_in_a_line() -> None:
    assert repr(info()).startswith(
        "<ModelInfo 'digits' version 1: input [2, 3]; latent [4]; bernoulli"
    )
    assert "\n" not in repr(info())


def test_ends_of_a_path() -> None:
    x, z = np.zeros((2, 3)), Latents(np.zeros((5, 4)), "space-a")
    assert (_inputs.ends(x, x, info()).space, _inputs.ends(x, x, info()).single) == (
        pb.INTERPOLATION_SPACE_INPUT,
        True,
    )
    ends = _inputs.ends(z, Latents(np.ones((5, 4))), info())
    assert (ends.space, ends.latent_space_id, ends.single) == (
        pb.INTERPOLATION_SPACE_LATENT,
        "space-a",
        False,
    )


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (np.zeros((1, 2, 3)), Latents(np.zeros((1, 4))), "two of a kind"),
        (np.zeros((1, 2, 3)), np.zeros((2, 2, 3)), "one shape"),
        (np.zeros((1, 2, 3)), np.zeros((2, 3)), "one shape"),
        (Latents(np.zeros(4), "a"), Latents(np.zeros(4), "b"), "two different models"),
    ],
)
def test_ends_that_do_not_pair(start: Any, end: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        _inputs.ends(start, end, info())


@pytest.mark.parametrize(
    ("shape", "rows"),
    [((28, 28), 1), ((5, 28, 28), 5), ((1, 28, 28), 1), ((5, 1, 28, 28), 5)],
)
def test_grey_pictures_need_no_channel_axis(shape: tuple[int, ...], rows: int) -> None:
    grey = dataclasses.replace(info(), input_shape=(1, 28, 28))
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    found = _inputs.pictures(x, grey)
    assert found.shape == (rows, 1, 28, 28)
    np.testing.assert_array_equal(found.ravel(), x.ravel())
    ends = _inputs.ends(x, x, grey)
    assert ends.single is (len(shape) < 4 and rows == 1)
    assert ends.start.shape == ends.end.shape == (rows, 1, 28, 28)


def test_a_path_between_two_grey_pictures_has_no_axis_of_pairs(
    connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (scripted_model, scripted_server):
        monkeypatch.setattr(module, "INPUT_SHAPE", (1, 2, 3))
    x = scripted_model.pictures(2)[:, 0]
    with scripted_server.serving(scripted_server.Script()) as script:
        digits = connect(script.address).model("digits")
        assert digits.interpolate(x[0], x[1], steps=4).shape == (4, 1, 2, 3)
        assert digits.interpolate(x, x, steps=4).shape == (2, 4, 1, 2, 3)


def test_coloured_pictures_need_their_channels() -> None:
    coloured = dataclasses.replace(info(), input_shape=(3, 28, 28))
    with pytest.raises(InvalidInput, match="input rows of shape"):
        _inputs.pictures(np.zeros((5, 28, 28)), coloured)


def test_masked_arrays_are_refused() -> None:
    for check, shape in ((_inputs.pictures, (1, 2, 3)), (_inputs.latents, (1, 4))):
        with pytest.raises(InvalidInput, match="masked"):
            check(np.ma.masked_greater(np.ones(shape), 0.5), info())
