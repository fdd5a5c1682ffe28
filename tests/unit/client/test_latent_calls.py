"""Edit, score, the fitted prior and tables, by either client."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

import vaeserve
from unit.client.scripted_model import ATTRIBUTES, INPUT_SHAPE, PRIOR_MEAN, SPACE, pictures
from unit.client.scripted_server import Script, serving
from vaeserve import Client, Column, InvalidInput, Latents, ModelInfo
from vaeserve.v1 import model_pb2, vae_service_pb2 as pb

AMOUNTS = {"smile": 1.5, "glasses": -1.0}
MOVE = np.float32(1.5) * ATTRIBUTES["smile"] - ATTRIBUTES["glasses"]
TERMS = (
    "reconstruction",
    "kl",
    "negative_elbo",
    "importance_weighted",
    "percentile",
    "typicality",
)


def test_edit_of_pictures(client: Client, script: Script) -> None:
    digits, x = client.model("digits"), pictures(3)
    edited = digits.edit(x, AMOUNTS, preserve=["hat"], latents=True)
    mu = digits.encode(x).mu
    assert edited.latents is not None
    np.testing.assert_allclose(edited.latents, mu + MOVE, rtol=1e-6)
    np.testing.assert_array_equal(edited, digits.decode(edited.latents))
    assert (edited.latent_space_id, edited.version, edited.seed) == (SPACE, 3, None)
    (sent,) = script.sent(pb.EditRequest)
    assert sent.WhichOneof("rows") == "input"
    assert list(sent.preserve) == ["hat"]


def test_edit_of_latents_hands_their_id_back(client: Client, script: Script) -> None:
    digits = client.model("digits")
    z = digits.encode(pictures(2)).mu
    np.testing.assert_array_equal(
        digits.edit(z, {"smile": 2}), digits.decode(z + 2 * ATTRIBUTES["smile"])
    )
    (sent,) = script.sent(pb.EditRequest)
    assert (sent.WhichOneof("rows"), sent.latent_space_id) == ("latents", SPACE)
    assert digits.edit(pictures(1)[0], {}, dtype=np.uint8).shape == (1, *INPUT_SHAPE)


@pytest.mark.parametrize(
    ("amounts", "options", "words"),
    [
        ({"smile": "much"}, {}, "amounts are numbers by attribute name"),
        ({1: 1.0}, {}, "amounts are numbers by attribute name"),
        (["smile"], {}, "amounts are numbers by attribute name"),
        ({"smile": 1.0}, {"preserve": "glasses"}, r"pass \['glasses'\]"),
        ({"smile": 1.0}, {"dtype": np.float64}, "float32 or uint8"),
    ],
)
def test_edit_refuses_here(
    client: Client, script: Script, amounts: Any, options: Any, words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        client.model("digits").edit(pictures(1), amounts, **options)
    assert not script.sent(pb.EditRequest)


def test_score_at_the_mean(client: Client) -> None:
    scored = client.model("digits").score(pictures(5))
    assert len(scored) == 5
    assert (scored.importance_weighted, scored.seed, scored.version) == (None, None, 3)
    np.testing.assert_allclose(scored.negative_elbo, scored.reconstruction + scored.kl)
    with pytest.raises(AttributeError):
        scored.kl = scored.reconstruction  # type: ignore[misc]  # that is the point


def test_a_seed_repeats_a_score(client: Client) -> None:
    digits, x = client.model("digits"), pictures(4)
    first = digits.score(x, draws=5)
    again = digits.score(x, draws=5, seed=first.seed)
    for term in TERMS:
        np.testing.assert_array_equal(getattr(again, term), getattr(first, term))
    other = digits.score(x, draws=5, seed=3).reconstruction
    assert (other != first.reconstruction).any()


@pytest.mark.parametrize(("max_rows", "max_draws"), [(2, 0), (100, 15), (3, 10)])
def test_split_calls_equal_whole_ones(connect: Any, max_rows: int, max_draws: int) -> None:
    answers: list[list[Any]] = []
    x = pictures(11)
    for rows, draws in ((100, 0), (max_rows, max_draws)):
        with serving(Script(max_rows=rows, max_draws=draws)) as script:
            digits = connect(script.address).model("digits")
            scored = digits.score(x, draws=5, seed=2, first_row=40)
            edited = digits.edit(x, AMOUNTS, preserve=("hat",), latents=True)
            fitted = digits.sample(11, seed=4, prior="fitted")
            kept = [getattr(scored, term) for term in TERMS]
            requests = len(script.sent(pb.ScoreRequest))
            assert (requests == 1) == (not answers)
            answers.append([*kept, edited.pictures, edited.latents, fitted.pictures])
    for whole, parts in zip(*answers, strict=True):
        np.testing.assert_array_equal(parts, whole)


def test_a_row_of_too_many_draws_is_refused_here(connect: Any) -> None:
    with serving(Script(max_draws=10)) as script:
        with pytest.raises(InvalidInput, match="11 draws a row; the server makes at most 10"):
            connect(script.address).model("digits").score(pictures(1), draws=11)
        assert not script.sent(pb.ScoreRequest)


def test_the_fitted_prior(client: Client, script: Script) -> None:
    digits = client.model("digits")
    standard, fitted = (
        digits.sample(6, seed=5, prior=prior, latents=True).latents
        for prior in ("standard", "fitted")
    )
    assert standard is not None
    np.testing.assert_array_equal(fitted, standard + PRIOR_MEAN)
    with pytest.raises(InvalidInput, match="prior must be one of standard, fitted, got 'best'"):
        digits.sample(6, prior="best")
    assert len(script.sent(pb.SampleRequest)) == 2


def test_the_info_tells_of_the_toolkit(client: Client) -> None:
    info = client.model("digits").info
    assert [attribute.name for attribute in info.attributes] == ["glasses", "smile"]
    smile = vaeserve.Attribute("smile", "logistic", 0.9, positives=3, negatives=7, note="")
    assert info.attributes[1] == smile
    assert info.prior == vaeserve.FittedPrior(2, 10, held_out_nats=5.5, standard_nats=6.5)
    assert info.latent_statistics is not None
    assert info.latent_statistics.sigma2_mean == (0.75,) * 4
    assert info.columns == ()
    assert info.precision == "float32"


def test_the_info_of_a_server_that_tells_nothing() -> None:
    info = ModelInfo.from_message(model_pb2.ModelInfo(name="old", input_shape=[6]))
    assert (info.attributes, info.prior, info.latent_statistics) == ((), None, None)
    with pytest.raises(InvalidInput, match="trained on no table"):
        info.to_model([[1.0]])


def table_info() -> ModelInfo:
    columns = [("age", 40.0, 10.0), ("income", 3e4, 1e4), ("constant", 7.0, 1.0)]
    return ModelInfo.from_message(
        model_pb2.ModelInfo(
            name="people",
            input_shape=[3],
            columns=[model_pb2.Column(name=name, mean=mean, scale=s) for name, mean, s in columns],
        )
    )


def test_a_table_there_and_back() -> None:
    info = table_info()
    assert info.columns[0] == Column("age", 40.0, 10.0)
    table = np.array([[50, 2e4, 7], [40, 3e4, 7]])
    rows = info.to_model(table)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, [[1, -1, 0], [0, 0, 0]])
    by_name = {"constant": [7, 7], "income": [2e4, 3e4], "age": [50, 40], "other": ["a", "b"]}
    np.testing.assert_array_equal(info.to_model(by_name), rows)
    np.testing.assert_allclose(info.from_model(rows), table)
    assert info.from_model(rows[np.newaxis]).shape == (1, 2, 3)
    assert info.to_model(table[0]).shape == (3,)


@given(st.lists(st.tuples(*[st.floats(-1e6, 1e6)] * 3), min_size=1, max_size=5))
def test_any_table_comes_back(table: list[tuple[float, ...]]) -> None:
    info = table_info()
    np.testing.assert_allclose(info.from_model(info.to_model(table)), table, rtol=1e-6, atol=0.1)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"age": [1.0]}, "lacks the columns 'income', 'constant'"),
        ({"age": [1.0], "income": [1.0, 2.0], "constant": [1.0]}, "differ in length"),
        ([["a", "b", "c"]], "holds what is no number"),
        ([[1.0, 2.0]], r"3 columns, got an array of shape \[1, 2\]"),
        (1.0, "3 columns"),
    ],
)
def test_what_is_no_such_table(table: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        table_info().to_model(table)


def test_latents_of_another_model_are_not_edited(client: Client) -> None:
    z = Latents(np.zeros((1, 5), np.float32))
    with pytest.raises(InvalidInput, match="latent rows"):
        client.model("digits").edit(z, AMOUNTS)
