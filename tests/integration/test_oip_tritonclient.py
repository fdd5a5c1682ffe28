"""Users of tritonclient need change nothing but the address."""

import numpy as np
import pytest

from support import triton as calls
from support.triton import Triton, TritonError
from vaeserve import Client

X = np.random.default_rng(5).random((3, 1, 8, 8), np.float32)


def test_everything_that_can_be_asked(triton: Triton) -> None:
    about = triton(calls.about, "digits_encoder")
    ready = [about[what] for what in ("live", "ready", "model_ready", "nobody_ready")]
    assert ready == [True, True, True, False]
    assert about["server"]["name"] == "vaeserve"
    assert "system_shared_memory" in about["server"]["extensions"]
    assert about["metadata"]["inputs"] == [
        {"name": "x", "datatype": "FP32", "shape": ["-1", "1", "8", "8"]}
    ]
    assert [output["name"] for output in about["metadata"]["outputs"]] == ["mu", "log_var"]
    config = about["config"]["config"]
    assert config["max_batch_size"] == 256
    assert config["dynamic_batching"] == {}
    assert config["input"][0]["dims"] == ["1", "8", "8"]
    assert {model["name"] for model in about["index"]["models"]} == {
        f"{name}{part}"
        for name in ("digits", "rgb", "vectors")
        for part in ("_encoder", "_decoder", "")
    }
    assert about["regions"] == about["cuda"] == {}


def test_a_whole_is_a_pipeline_of_its_parts(triton: Triton) -> None:
    config = triton(calls.about, "digits")["config"]["config"]
    steps = config["ensemble_scheduling"]["step"]
    assert [step["model_name"] for step in steps] == ["digits_encoder", "digits_decoder"]
    assert config["output"][0]["name"] == "x_hat"


def test_numpy_in_numpy_out(triton: Triton, client: Client) -> None:
    posterior = client.model("digits").encode(X)
    got = triton(calls.infer, "digits_encoder", X, request_id="mine", model_version="1")
    assert (got["id"], got["version"]) == ("mine", "1")
    np.testing.assert_array_equal(got["mu"], posterior.mu)
    np.testing.assert_array_equal(got["log_var"], posterior.log_var)
    assert "mu" not in triton(calls.infer, "digits_encoder", X, outputs=["log_var"])

    decoded = triton(calls.infer, "digits_decoder", np.asarray(posterior.mu))
    np.testing.assert_array_equal(decoded["x_hat"], client.model("digits").decode(posterior.mu))


def test_levels(triton: Triton, client: Client) -> None:
    levels = np.random.default_rng(6).integers(0, 256, (2, 3, 9, 11), np.uint8)
    got = triton(calls.infer, "rgb", levels, parameters={"x_hat_datatype": "UINT8"})
    assert got["x_hat"].dtype == np.uint8
    np.testing.assert_array_equal(
        got["x_hat"], client.model("rgb").reconstruct(levels, dtype="uint8")
    )


def test_parameters(triton: Triton, client: Client) -> None:
    got = triton(calls.infer, "digits", X, parameters={"draw": True, "seed": 4})
    assert got["seed"] == 4
    ours = client.model("digits").reconstruct(X, draw=True, seed=4)
    np.testing.assert_array_equal(got["x_hat"], ours)


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_compressed_calls(triton: Triton, client: Client, compression: str) -> None:
    got = triton(calls.infer, "digits_encoder", X, compression_algorithm=compression)
    np.testing.assert_array_equal(got["mu"], client.model("digits").encode(X).mu)


def test_asyncio(triton: Triton, client: Client) -> None:
    ours = client.model("digits").encode(X)
    results = triton(calls.infer_async, "digits_encoder", X, calls=20)
    assert [result["id"] for result in results] == [str(number) for number in range(20)]
    for result in results:
        np.testing.assert_array_equal(result["mu"], ours.mu)


def test_errors(triton: Triton) -> None:
    for model, values, status, words in (
        ("nobody", X, "NOT_FOUND", "digits_encoder"),
        ("digits_encoder", X.astype(np.float64), "INVALID_ARGUMENT", "FP32 or UINT8"),
        ("digits_encoder", X[:, :, :7], "INVALID_ARGUMENT", "[rows, 1, 8, 8]"),
        ("digits_encoder", np.repeat(X, 100, axis=0), "OUT_OF_RANGE", "256"),
    ):
        with pytest.raises(TritonError) as raised:
            triton(calls.infer, model, values)
        assert raised.value.args[0] == f"StatusCode.{status}"
        assert words in raised.value.args[1]


def test_what_is_not_declared_is_unimplemented(triton: Triton) -> None:
    with pytest.raises(TritonError) as raised:
        triton(calls.load_model, "digits")
    assert raised.value.args[0] == "StatusCode.UNIMPLEMENTED"


def test_shared_memory_is_off_by_default(triton: Triton) -> None:
    with pytest.raises(TritonError) as raised:
        triton(calls.through_shared_memory, "digits_encoder", X, 3 * 20 * 4)
    assert raised.value.args[0] == "StatusCode.UNIMPLEMENTED"
    assert "--system-shared-memory" in raised.value.args[1]


def test_beside_the_sdk_in_one_process(triton: Triton) -> None:
    assert triton(calls.beside_the_sdk) == ["digits", "rgb", "vectors"]
