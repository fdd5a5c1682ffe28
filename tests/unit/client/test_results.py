"""Latents, Posterior and Generated as arrays."""

import copy
import dataclasses
import pickle
from typing import Any

import numpy as np
import pytest

from vaeserve import Client, Generated, InvalidInput, Latents, Posterior


def latents(rows: int = 3) -> Latents:
    return Latents(np.arange(rows * 4, dtype=np.float32).reshape(rows, 4), "space-a")


def posterior(rows: int = 3) -> Posterior:
    return Posterior(latents(rows), latents(rows), None, None, first_row=0, version=1)


def generated(**changes: Any) -> Generated:
    pictures = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    plain = Generated(pictures, latents(4), 7, "space-a", 3)
    return dataclasses.replace(plain, **changes)


@pytest.mark.parametrize(
    "derive",
    [
        lambda z: z[0],
        lambda z: z[1:, ::2],
        lambda z: z + 0.5 * np.ones(4, np.float32),
        lambda z: np.ones(4, np.float32) - z,
        lambda z: z @ np.eye(4, dtype=np.float32),
        lambda z: z.mean(axis=0),
        lambda z: z.reshape(-1, 2),
        lambda z: np.repeat(z, 2, axis=0),
        lambda z: z.copy(),
        copy.deepcopy,
        lambda z: pickle.loads(pickle.dumps(z)),  # noqa: S301  our own bytes
    ],
)
def test_what_numpy_derives_keeps_the_id(derive: Any) -> None:
    derived = derive(latents())
    assert isinstance(derived, Latents)
    assert derived.latent_space_id == "space-a"


def test_latents_are_float32_and_unknown_by_default() -> None:
    z = Latents([[1, 2, 3]])
    assert (z.dtype.name, z.latent_space_id) == ("float32", "")
    assert z.base is not None
    assert type(np.asarray(z)) is np.ndarray


def test_wrapping_does_not_mark_the_source() -> None:
    z = latents()
    other = Latents(z, "space-b")
    assert (z.latent_space_id, other.latent_space_id) == ("space-a", "space-b")
    assert np.shares_memory(z, other)


def test_posterior_draws() -> None:
    q = posterior()
    assert q.sample(seed=1).shape == (3, 4)
    assert q.sample(5, seed=1).shape == (3, 5, 4)
    assert q.sample(seed=1).latent_space_id == "space-a"
    np.testing.assert_array_equal(q.sample(seed=1), q.sample(seed=1))
    np.testing.assert_array_equal(q.sample(2, seed=1)[:, 1], q.sample(5, seed=1)[:, 1])
    assert not np.array_equal(q.sample(), q.sample())


def test_posterior_draws_belong_to_absolute_rows() -> None:
    q = posterior()
    last = Posterior(Latents(q.mu[1:]), Latents(q.log_var[1:]), None, None, first_row=1, version=1)
    np.testing.assert_array_equal(last.sample(seed=9), q.sample(seed=9)[1:])


@pytest.mark.parametrize(("n", "seed"), [(0, 1), (-1, 1), (1, -1), (1, 2**64)])
def test_posterior_refuses(n: int, seed: int) -> None:
    with pytest.raises(InvalidInput):
        posterior().sample(n, seed=seed)


def test_posterior_is_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        posterior().version = 2  # type: ignore[misc]


def test_generated_behaves_as_its_pictures() -> None:
    drawn = generated()
    assert (len(drawn), drawn.shape, drawn.dtype.name) == (4, (4, 2, 3), "float32")
    assert (drawn.ndim, drawn.size) == (3, 24)
    np.testing.assert_array_equal(drawn[1:3], drawn.pictures[1:3])
    np.testing.assert_array_equal(drawn[..., 0], drawn.pictures[..., 0])
    np.testing.assert_array_equal(list(drawn), drawn.pictures)
    np.testing.assert_array_equal(np.mean(drawn, axis=0), drawn.pictures.mean(axis=0))
    np.testing.assert_array_equal(drawn - drawn.pictures, np.zeros(drawn.shape))


def test_generated_converts_as_numpy_asks() -> None:
    drawn = generated()
    assert np.asarray(drawn) is not None
    assert np.shares_memory(np.asarray(drawn), drawn.pictures)
    assert not np.shares_memory(np.array(drawn), drawn.pictures)
    assert np.asarray(drawn, np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="copy"):
        np.array(drawn, np.float64, copy=False)


def test_generated_is_immutable() -> None:
    drawn = generated()
    with pytest.raises(dataclasses.FrozenInstanceError):
        drawn.seed = 1  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        drawn.pictures[0] = 0
    with pytest.raises(TypeError):
        drawn[0] = 0  # type: ignore[index]
    np.array(drawn)[0] = 0


def test_generated_tells_what_it_is() -> None:
    assert repr(generated()) == "<Generated float32[4, 2, 3], seed=7, version 3>"
    assert repr(generated(seed=None)) == "<Generated float32[4, 2, 3], version 3>"


def test_latents_of_two_models_do_not_mix() -> None:
    a, b = latents(), Latents(np.ones((3, 4)), "space-b")
    mixes: list[Any] = [
        lambda: a + b,
        lambda: np.concatenate([a, b]),
        lambda: np.stack(arrays=[a, b]),
        lambda: a.__iadd__(b),
    ]
    for mix in mixes:
        with pytest.raises(InvalidInput, match="two different models"):
            mix()
    np.testing.assert_array_equal(a, latents())


def test_masks_and_numbers_made_of_latents_are_plain() -> None:
    z = latents()
    assert type(z > 0) is np.ndarray
    assert (z > 0).dtype == np.bool_
    assert isinstance(np.add.reduce(z, axis=None), np.float32)
    assert type(np.isfinite(z)) is np.ndarray


def test_joined_latents_are_latents() -> None:
    known, unknown = latents(), Latents(np.zeros((3, 4)))
    joins: list[Any] = [np.concatenate, np.stack, np.vstack, np.hstack]
    for join in joins:
        for parts in ([known, known], [unknown, known], [np.zeros((3, 4), np.float32), known]):
            assert join(parts).latent_space_id == "space-a"
    assert np.stack(arrays=[known, known], axis=1).latent_space_id == "space-a"  # type: ignore[attr-defined]
    assert np.stack(axis=1, arrays=[known, known]).latent_space_id == "space-a"  # type: ignore[attr-defined]
    assert np.vstack(dtype=np.float32, tup=[known]).latent_space_id == "space-a"  # type: ignore[attr-defined]


def test_unknown_latents_take_the_known_id() -> None:
    known, unknown = latents(), Latents(np.zeros((3, 4)))
    assert (unknown + known).latent_space_id == "space-a"  # type: ignore[attr-defined]
    assert (known + unknown).latent_space_id == "space-a"  # type: ignore[attr-defined]
    unknown += known
    assert unknown.latent_space_id == "space-a"


def test_latents_change_in_place() -> None:
    z = same = latents()
    z += 1
    assert z is same
    np.testing.assert_array_equal(z, latents() + 1)
    assert z.latent_space_id == "space-a"
    plain = np.empty((3, 4))
    assert np.multiply(z, 2, out=plain) is plain


@pytest.mark.parametrize("dtype", [np.bool_, np.float64, np.int64])
def test_pickles_keep_the_type(dtype: Any) -> None:
    cast = latents().astype(dtype)
    again = pickle.loads(pickle.dumps(cast))  # noqa: S301  our own bytes
    assert (type(again), again.dtype, again.latent_space_id) == (Latents, dtype, "space-a")
    np.testing.assert_array_equal(again, cast)


@pytest.mark.parametrize(
    "bad", [["1", "2"], None, [1j], np.ma.masked_greater(np.zeros((1, 4)), 0.5)]
)
def test_what_latents_are_not_made_of(bad: Any) -> None:
    with pytest.raises(InvalidInput, match=r"numbers|masked"):
        Latents(bad)


def test_generated_calculates_as_its_pictures() -> None:
    drawn = generated()
    pictures = drawn.pictures
    for found, expected in (
        (drawn * 2, pictures * 2),
        (1 - drawn, 1 - pictures),
        (drawn - drawn, pictures - pictures),
        (drawn + np.ones(3), pictures + np.ones(3)),
        (np.ones(3) + drawn, pictures + np.ones(3)),
        (-drawn, -pictures),
        (drawn > 5, pictures > 5),
        (np.sqrt(drawn), np.sqrt(pictures)),
        (np.add.reduce(drawn, axis=0), pictures.sum(axis=0)),
    ):
        assert type(found) is np.ndarray
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(TypeError):
        drawn += 1


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda drawn: pickle.loads(pickle.dumps(drawn))],  # noqa: S301  our own bytes
)
def test_copies_of_generated_stay_read_only(copied: Any) -> None:
    drawn = copied(generated())
    assert not drawn.pictures.flags.writeable
    assert not drawn.latents.flags.writeable
    assert (drawn.seed, drawn.latent_space_id, drawn.version) == (7, "space-a", 3)
    np.testing.assert_array_equal(drawn, generated())


def test_results_are_shown_by_what_they_are(client: Client) -> None:
    digits = client.model("digits")
    x = np.zeros((3, 2, 3), np.float32)
    assert repr(digits.encode(x)) == "<Posterior [3, 4], version 3>"
    assert repr(digits.encode(x, draws=2, seed=7)) == (
        "<Posterior [3, 4], draws=2, seed=7, version 3>"
    )
    score = repr(digits.score(x))
    assert score.startswith("<Score [3], negative_elbo ")
    assert score.endswith(" nats, version 3>")
