"""What the page shows for each gesture, against a real gRPC server of the client's tests."""

import re
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from PIL import Image

from unit.client.scripted_server import Failure, Script, serving
from vaeserve import Client, Latents, Model
from vaeserve_playground import calls, views
from vaeserve_playground.calls import Stopwatch
from vaeserve_playground.dimensions import Dimension

PICTURE = Image.fromarray(np.array([[0, 40, 80], [120, 160, 200]], np.uint8))


@pytest.fixture
def script() -> Iterator[Script]:
    with serving(Script()) as running:
        yield running


@pytest.fixture
def model(script: Script) -> Iterator[Model]:
    with Client(script.address) as client:
        yield client.model("digits")


def images(html: str) -> list[str]:
    return re.findall(r'src="(data:[^"]+)"', html)


def test_a_look_shows_everything_and_keeps_the_posterior(model: Model) -> None:
    (shown, line), looked = views.look(model, PICTURE, invert=False)
    assert len(images(shown)) == 2
    assert "taken as it is" in shown
    assert "-ELBO" in shown
    assert re.findall(r"<b>(\w+)</b> [\d.]+ ms", line) == ["encode", "decode", "score"]
    assert looked is not None
    x = np.asarray(PICTURE)
    np.testing.assert_array_equal(looked.row, x)
    np.testing.assert_array_equal(looked.mu, model.encode(x).mu[0])
    inverted, _ = views.look(model, PICTURE, invert=True)
    assert images(inverted[0]) != images(shown)


def test_what_the_service_refuses_is_said_in_words(script: Script, model: Model) -> None:
    script.failures.append(Failure(grpc.StatusCode.INTERNAL, "INTERNAL"))
    (shown, line), looked = views.look(model, PICTURE, invert=False)
    assert (shown, looked) == ("", None)
    assert "The service refuses: INTERNAL: as scripted" in line
    assert 'role="alert"' in line


def test_samples_are_those_of_the_client(model: Model) -> None:
    shown, line = views.samples(model, 4, seed=7, temperature=0.5, prior="standard")
    assert "4 draws from the standard prior, seed 7, temperature 0.5" in shown
    alone, _ = views.samples(model, 1, seed=7, temperature=0.5, prior="standard")
    assert "1 draw from the standard prior" in alone
    assert "<b>sample</b>" in line
    rows = calls.sample(model, 4, seed=7, temperature=0.5, prior="standard", watch=Stopwatch())
    np.testing.assert_array_equal(rows, model.sample(4, seed=7, temperature=0.5, dtype=np.uint8))


def test_a_walk_needs_two_pictures(model: Model) -> None:
    _, looked = views.look(model, PICTURE, invert=False)
    assert "Drop in two pictures" in views.walked(model, looked, None, steps=3, path="lerp")[0]
    assert "Drop in two pictures" in views.walked(model, None, PICTURE, steps=3, path="lerp")[0]
    shown, line = views.walked(model, looked, PICTURE, steps=3, path="slerp")
    assert "3 points, slerp" in shown
    assert "<b>interpolate</b>" in line


def test_an_edit_shows_before_and_after(model: Model) -> None:
    z = calls.middle_of(model.info)
    before, same = images(views.edited(model, z, {"smile": 0.0})[0])
    assert before == same
    before_again, after = images(views.edited(model, z, {"smile": 1.0})[0])
    assert before_again == before != after


def test_sliders_set_their_dimensions_alone(model: Model) -> None:
    z = Latents([1, 2, 3, 4], "space-a")
    chosen = [Dimension(2, -1, 1), Dimension(0, -1, 1)]
    moved = calls.moved(z, chosen, (9.0, 8.0))
    np.testing.assert_array_equal(moved, [8, 2, 9, 4])
    assert moved.latent_space_id == "space-a"
    np.testing.assert_array_equal(z, [1, 2, 3, 4])
    assert images(views.decoded(model, moved)[0])


def test_sliders_come_from_the_aggregated_posterior(model: Model) -> None:
    chosen = calls.sliders_of(model.info, 2)
    assert [(each.index, each.low, each.high) for each in chosen] == [
        (0, -2.5, 3.5),
        (1, -2.5, 3.5),
    ]
    np.testing.assert_array_equal(calls.middle_of(model.info), [0.5] * 4)


def test_rows_that_are_no_pictures_are_refused_in_words(script: Script, model: Model) -> None:
    assert views.refusal(model.info) is None
    script.levels = False
    with Client(script.address) as client:
        refusal = views.refusal(client.model("digits").info)
    assert refusal == "'digits' takes rows of shape 2x3, which are no pictures to look at."
