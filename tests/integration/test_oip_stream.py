"""ModelStreamInfer: answers in order, errors inside them."""

from typing import Any

import numpy as np

from support import triton as calls
from support.triton import Triton
from vaeserve import Client

Request = tuple[str, Any, dict[str, Any]]

X = np.random.default_rng(5).random((3, 1, 8, 8), np.float32)


def test_answers_come_in_order(triton: Triton, client: Client) -> None:
    model = client.model("digits")
    requests: list[Request] = [
        ("digits_encoder" if number % 2 else "digits", X[: number % 3 + 1], {})
        for number in range(40)
    ]
    answers = triton(calls.stream, requests)
    assert [answer["id"] for answer in answers] == [str(number) for number in range(40)]
    for (name, x, _), answer in zip(requests, answers, strict=True):
        if name == "digits":
            np.testing.assert_array_equal(answer["x_hat"], model.reconstruct(x))
        else:
            np.testing.assert_array_equal(answer["mu"], model.encode(x).mu)


def test_an_error_does_not_end_the_stream(triton: Triton) -> None:
    good: Request = ("digits_encoder", X, {})
    bad: Request = ("nobody", X, {})
    wrong = ("digits", X, {"seed": 3})
    answers = triton(calls.stream, [good, bad, wrong, good])
    assert answers[0]["mu"].shape == (3, 20)
    assert "[NOT_FOUND]" in answers[1]
    assert "[INVALID_ARGUMENT]" in answers[2]
    np.testing.assert_array_equal(answers[3]["mu"], answers[0]["mu"])


def test_asyncio(triton: Triton, client: Client) -> None:
    answers = triton(calls.stream_async, "digits_encoder", X, calls=10)
    assert [answer["id"] for answer in answers] == [str(number) for number in range(10)]
    for answer in answers:
        np.testing.assert_array_equal(answer["mu"], client.model("digits").encode(X).mu)
