"""Calls of both clients against a real server on a loopback port."""

import threading
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import vaeserve
from unit.client.scripted_model import INPUT_SHAPE, LATENT_SHAPE, SPACE, pictures
from unit.client.scripted_server import Failure, Script, serving
from vaeserve import AsyncClient, Client, Latents, Model
from vaeserve.v1 import arrays, model_service_pb2, noise, tensor_pb2, vae_service_pb2 as pb


def test_catalogue(client: Client) -> None:
    digits, faces = client.models()
    assert (digits.name, digits.version, digits.ready) == ("digits", 3, True)
    assert (faces.version, faces.ready, faces.problem) == (0, False, "encoder.onnx: digest differs")


def test_a_handle_sends_nothing_and_fetches_its_info_once(client: Client, script: Script) -> None:
    digits = client.model("digits")
    assert script.requests == []
    info = digits.info
    assert (info.input_shape, info.latent_shape, info.likelihood) == (
        INPUT_SHAPE,
        LATENT_SHAPE,
        "bernoulli",
    )
    assert info.limits.max_rows == 8
    assert info.preprocessing is not None
    assert info.preprocessing.scale == pytest.approx(1 / 255)
    digits.sample(1)
    assert digits.info is info
    assert len(script.sent(model_service_pb2.GetModelRequest)) == 1


def test_threads_fetch_the_info_once(script: Script) -> None:
    with Client(script.address) as client:
        digits = client.model("digits")
        threads = [threading.Thread(target=lambda: digits.info) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(script.sent(model_service_pb2.GetModelRequest)) == 1


def test_encode(client: Client, script: Script) -> None:
    x = pictures(5)
    posterior = client.model("digits").encode(x, draws=2, seed=7)
    np.testing.assert_array_equal(posterior.mu, x.reshape(5, -1)[:, :4] * 2)
    assert posterior.mu.flags.writeable
    assert posterior.draws is not None
    assert posterior.draws.shape == (5, 2, 4)
    assert (posterior.seed, posterior.version, len(posterior)) == (7, 3, 5)
    assert posterior.latent_space_id == posterior.draws.latent_space_id == SPACE
    np.testing.assert_allclose(posterior.std**2, np.exp(posterior.log_var), rtol=1e-6)


def test_draws_made_here_are_those_of_the_server(client: Client) -> None:
    posterior = client.model("digits").encode(pictures(20), draws=3, seed=11, first_row=100)
    assert posterior.draws is not None
    np.testing.assert_array_equal(posterior.sample(3, seed=11), posterior.draws)
    np.testing.assert_array_equal(posterior.sample(seed=11), posterior.draws[:, 0])


def test_encode_without_draws_has_none(client: Client) -> None:
    posterior = client.model("digits").encode(pictures(1))
    assert (posterior.draws, posterior.seed) == (None, None)


def test_a_seed_is_chosen_where_none_is_given(client: Client, script: Script) -> None:
    digits = client.model("digits")
    first, second = digits.sample(20), digits.sample(20)
    assert first.seed is not None
    assert second.seed is not None
    assert first.seed != second.seed
    assert max(first.seed, second.seed) < 2**53
    np.testing.assert_array_equal(first, digits.sample(20, seed=first.seed))


def test_sample(client: Client) -> None:
    digits = client.model("digits")
    drawn = digits.sample(30, seed=5, latents=True)
    eps = noise.standard_normal(5, noise.Stream.PRIOR, first_row=0, rows=30, size=4)
    np.testing.assert_array_equal(drawn.latents, eps[:, 0])
    np.testing.assert_array_equal(digits.sample(10, seed=5, first_row=20), drawn[20:])
    half = digits.sample(3, seed=5, temperature=0.5, latents=True)
    np.testing.assert_array_equal(half.latents, eps[:3, 0] * np.float32(0.5))
    assert digits.sample(3, seed=5).latents is None


def test_decode_and_reconstruct(client: Client) -> None:
    digits, x = client.model("digits"), pictures(9)
    posterior = digits.encode(x)
    np.testing.assert_array_equal(digits.decode(posterior.mu), digits.reconstruct(x))
    drawn = digits.reconstruct(x, draw=True, seed=3)
    np.testing.assert_array_equal(drawn, digits.decode(posterior.sample(seed=3)))


def test_latents_carry_their_id_and_plain_arrays_none(client: Client, script: Script) -> None:
    digits = client.model("digits")
    z = digits.encode(pictures(2)).mu
    digits.decode(z + 0.5 * np.ones(4, np.float32))
    digits.decode(np.asarray(z))
    assert [sent.latent_space_id for sent in script.sent(pb.DecodeRequest)] == [SPACE, ""]
    with pytest.raises(vaeserve.LatentSpaceMismatch):
        digits.decode(Latents(z, "space-b"))


def test_interpolation_of_one_pair_and_of_several(client: Client, script: Script) -> None:
    digits, x = client.model("digits"), pictures(6)
    several = digits.interpolate(x[:3], x[3:], steps=4, latents=True)
    assert several.shape == (3, 4, *INPUT_SHAPE)
    assert several.latents is not None
    assert several.latents.shape == (3, 4, *LATENT_SHAPE)
    one = digits.interpolate(x[0], x[3], steps=4, latents=True)
    assert one.latents is not None
    assert (one.shape, one.latents.shape) == ((4, *INPUT_SHAPE), (4, *LATENT_SHAPE))
    np.testing.assert_array_equal(one, several[0])
    ends = digits.encode(x).mu
    np.testing.assert_array_equal(digits.interpolate(ends[:3], ends[3:], steps=4), several)
    spaces = [(sent.space, sent.latent_space_id) for sent in script.sent(pb.InterpolateRequest)]
    assert spaces[-1] == (pb.INTERPOLATION_SPACE_LATENT, SPACE)
    assert spaces[0] == (pb.INTERPOLATION_SPACE_INPUT, "")


def test_pictures_stay_uint8_on_the_wire(client: Client, script: Script) -> None:
    digits = client.model("digits")
    levels = np.rint(pictures(3) * 255).astype(np.uint8)
    x_hat = digits.reconstruct(levels, dtype=np.uint8)
    assert x_hat.dtype == np.uint8
    request = script.sent(pb.ReconstructRequest)[0]
    assert request.input.dtype == request.x_hat_dtype == tensor_pb2.DATA_TYPE_UINT8
    np.testing.assert_array_equal(arrays.from_tensor(request.input), levels)
    assert digits.sample(2, dtype=np.uint8).dtype == np.uint8
    assert digits.decode(np.zeros((1, 4)), dtype=np.uint8).dtype == np.uint8
    assert digits.interpolate(levels[0], levels[1], dtype=np.uint8).dtype == np.uint8


def test_a_row_without_batch_axis_is_a_batch_of_one(client: Client) -> None:
    digits, x = client.model("digits"), pictures(1)
    assert digits.encode(x[0]).mu.shape == (1, 4)
    assert digits.reconstruct(x[0]).shape == digits.decode(np.zeros(4)).shape == (1, *INPUT_SHAPE)


@pytest.mark.parametrize("bad", [np.zeros((2, 2)), np.zeros((0, *INPUT_SHAPE)), 1.0])
def test_a_wrong_shape_is_refused_here(client: Client, script: Script, bad: Any) -> None:
    digits = client.model("digits")
    with pytest.raises(ValueError, match=r"shape \[rows, 2, 3\]|no rows"):
        digits.encode(bad)
    assert script.sent(pb.EncodeRequest) == []


# --- splitting ---------------------------------------------------------------------------------


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(rows=st.integers(1, 40), max_rows=st.integers(2, 40), draws=st.integers(0, 2))
def test_split_calls_equal_whole_ones(connect: Any, rows: int, max_rows: int, draws: int) -> None:
    x = pictures(rows)
    with serving(Script(max_rows=1000)) as roomy, serving(Script(max_rows=max_rows)) as tight:
        clients = [connect(server.address) for server in (roomy, tight)]
        whole, split = (client.model("digits") for client in clients)
        calls: list[Callable[[Model], Any]] = [
            lambda model: model.encode(x, draws=draws, seed=1, first_row=5).mu,
            lambda model: model.encode(x, draws=1 + draws, seed=1, first_row=5).draws,
            lambda model: model.sample(rows, seed=2, first_row=9, latents=True).latents,
            lambda model: model.sample(rows, seed=2, first_row=9),
            lambda model: model.reconstruct(x, draw=True, seed=3, first_row=7),
            lambda model: model.decode(x.reshape(rows, -1)[:, :4]),
            lambda model: model.interpolate(x, x[::-1], steps=2),
        ]
        for call in calls:
            np.testing.assert_array_equal(call(split), call(whole))
        assert len(roomy.sent(pb.SampleRequest)) == 2
        assert len(tight.sent(pb.SampleRequest)) == 2 * -(-rows // max_rows)
        # Before the servers end: the next example's may get the same ports, and a channel that has
        # just failed to connect there would hold back the new one.
        for client in clients:
            client.close()


def test_parts_share_one_seed_and_number_their_rows(connect: Any) -> None:
    with serving(Script(max_rows=4)) as script:
        drawn = connect(script.address).model("digits").sample(10, first_row=100)
        parts = sorted(
            (part.first_row, part.n, part.seed) for part in script.sent(pb.SampleRequest)
        )
    assert parts == [(100, 4, drawn.seed), (104, 4, drawn.seed), (108, 2, drawn.seed)]


@pytest.mark.parametrize("draws", [0, 50])
def test_messages_stay_within_their_limit_in_both_directions(connect: Any, draws: int) -> None:
    with serving(Script(max_rows=10_000, max_message_bytes=8192)) as script:
        x = pictures(600)
        posterior = connect(script.address).model("digits").encode(x, draws=draws, seed=1)
        sizes = [len(sent.input.data) // 24 for sent in script.sent(pb.EncodeRequest)]
    assert sum(sizes) == 600
    assert max(sizes) == (8192 - 4096) // max(24, 16 * (2 + draws))
    np.testing.assert_array_equal(posterior.mu, x.reshape(600, -1)[:, :4] * 2)


def test_a_row_that_fits_no_message_is_refused_here(connect: Any) -> None:
    with serving(Script(max_message_bytes=8192)) as script:
        digits = connect(script.address).model("digits")
        with pytest.raises(vaeserve.InvalidInput, match="bytes"):
            digits.encode(pictures(1), draws=1000)
        with pytest.raises(vaeserve.InvalidInput, match="9 steps"):
            digits.interpolate(pictures(1), pictures(1), steps=9)
        assert script.sent(pb.EncodeRequest) == []


def test_a_version_change_between_parts_is_no_silent_mixture(connect: Any) -> None:
    with serving(Script(max_rows=1)) as script:
        digits = connect(script.address).model("digits")

        def upgrade(request: Any) -> None:
            script.version = 3 + request.first_row

        script.before = upgrade
        with pytest.raises(vaeserve.VersionChanged):
            digits.sample(2, seed=1)


def test_info_is_fetched_again_once_another_version_answers(client: Client, script: Script) -> None:
    digits = client.model("digits")
    assert digits.info.version == 3
    script.version, script.max_rows = 4, 2
    assert digits.sample(1).version == 4
    assert (digits.info.version, digits.info.limits.max_rows) == (4, 2)


def test_a_limit_that_shrank_is_learnt(client: Client, script: Script) -> None:
    digits = client.model("digits")
    assert digits.info.limits.max_rows == 8
    script.max_rows = 2
    assert digits.sample(8).shape == (8, *INPUT_SHAPE)
    assert [request.n for request in script.sent(pb.SampleRequest)] == [8, 2, 2, 2, 2]
    assert digits.info.limits.max_rows == 2


def test_a_pinned_version_is_asked_for(client: Client, script: Script) -> None:
    client.model("digits", version=3).sample(1)
    assert [sent.version for sent in script.requests] == [3, 3]  # type: ignore[attr-defined]
    with pytest.raises(vaeserve.NotFound):
        client.model("digits", version=9).sample(1)


def test_a_failing_part_fails_the_call(connect: Any) -> None:
    with serving(Script(max_rows=1)) as script:
        digits = connect(script.address).model("digits")
        script.failures.append(Failure(grpc.StatusCode.INTERNAL, "INTERNAL"))
        with pytest.raises(vaeserve.InternalError):
            digits.sample(6)


async def test_async_parts_overlap_but_are_bounded(script: Script) -> None:
    script.max_rows = 1
    lock, now, most = threading.Lock(), 0, 0
    four = threading.Barrier(4)

    def meet(_: Any) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        four.wait(10)  # passes only if four parts are under way at once
        with lock:
            now -= 1

    script.before = meet
    async with AsyncClient(script.address) as client:
        await client.model("digits").sample(16)
    assert most <= 8
    assert len(script.sent(pb.SampleRequest)) == 16


def test_handles_have_a_useful_repr(client: Client, script: Script) -> None:
    assert "'digits', version=2 at 127.0.0.1" in repr(client.model("digits", version=2))
