"""Replies made by joining bytes are what protobuf makes of the same values."""

from typing import Any

import numpy as np
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays as any_array

from vaeserve.v1 import arrays, model_pb2, tensor_pb2, vae_service_pb2 as pb
from vaeserve_server.levels import to_levels
from vaeserve_server.replies import Form, Forms

INPUT_SHAPE, LATENT_SHAPE = (1, 3, 2), (5,)
INFO = model_pb2.ModelInfo(
    version=7,
    latent_space_id="a-space",
    input_shape=INPUT_SHAPE,
    latent_shape=LATENT_SHAPE,
    preprocessing=model_pb2.Preprocessing(scale=1 / 127.5, offset=-1.0),
)
COUNTS = st.integers(1, 40)


def floats(shape: tuple[int, ...]) -> Any:
    """Rows of every bit pattern."""
    return COUNTS.flatmap(lambda rows: any_array(np.uint32, (rows, *shape))).map(
        lambda bits: bits.view(np.float32)
    )


@given(
    values=st.lists(st.binary(min_size=1, max_size=300), min_size=2, max_size=2),
    shape=st.lists(st.integers(0, 2**40), max_size=5),
)
def test_a_form_is_filled_with_any_bytes(values: list[bytes], shape: list[int]) -> None:
    # Bytes that equal a mark, a length or a tag are bytes like all others.
    def build(first: bytes, second: bytes) -> pb.EncodeResponse:
        return pb.EncodeResponse(
            version=3,
            latent_space_id="s",
            mu=tensor_pb2.Tensor(dtype=arrays.FLOAT32, shape=shape, data=first),
            log_var=tensor_pb2.Tensor(dtype=arrays.UINT8, shape=shape, data=second),
        )

    form = Form(build, [len(value) for value in values])
    for filling in (values, [bytes(len(value)) for value in values], values):
        made = form.fill(*(np.frombuffer(value, np.uint8) for value in filling))
        assert made == build(*filling).SerializeToString()


@given(mus=st.lists(floats(LATENT_SHAPE), min_size=1, max_size=4))
def test_posteriors(mus: list[Any]) -> None:
    forms = Forms(INFO)
    for mu in mus:
        log_var = mu[::-1].copy()
        assert pb.EncodeResponse.FromString(forms.posterior((mu, log_var))) == pb.EncodeResponse(
            version=7,
            latent_space_id="a-space",
            mu=arrays.to_tensor(mu),
            log_var=arrays.to_tensor(log_var),
        )


@given(
    x_hats=st.lists(floats(INPUT_SHAPE), min_size=1, max_size=4),
    seeds=st.lists(st.integers(0, 2**64 - 1), min_size=4, max_size=4),
)
def test_samples_and_decoded_pictures(x_hats: list[Any], seeds: list[int]) -> None:
    forms = Forms(INFO)
    for x_hat, seed in zip(x_hats, seeds, strict=False):
        picture = arrays.to_tensor(x_hat)
        assert pb.DecodeResponse.FromString(forms.decoded((x_hat,))) == pb.DecodeResponse(
            version=7, x_hat=picture
        )
        expected = pb.SampleResponse(version=7, latent_space_id="a-space", x_hat=picture, seed=seed)
        assert pb.SampleResponse.FromString(forms.sample(seed, False, (x_hat,))) == expected


@given(
    x_hat=any_array(
        np.float32,
        COUNTS.map(lambda rows: (rows, *INPUT_SHAPE)),
        elements=st.floats(-3, 3, width=32),
    )
)
def test_levels(x_hat: Any) -> None:
    forms = Forms(INFO)
    levels = to_levels(x_hat, INFO.preprocessing.scale, INFO.preprocessing.offset)
    ideal = np.clip(np.rint((x_hat.astype(np.float64) + 1) * 127.5), 0, 255)
    assert np.abs(levels - ideal).max() <= 1
    decoded = pb.DecodeResponse.FromString(forms.decoded_levels((x_hat,)))
    sample = pb.SampleResponse.FromString(forms.sample(5, True, (x_hat,)))
    assert decoded.x_hat == sample.x_hat == arrays.to_tensor(levels)
    assert (sample.seed, sample.version, decoded.version) == (5, 7, 7)
