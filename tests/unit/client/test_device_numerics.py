"""What an SDK's user sees of the figures that were measured on a GPU."""

import dataclasses

import pytest

from vaeserve import DeviceNumerics, ModelInfo
from vaeserve.v1 import model_pb2


def entry(*, tf32: bool, parity: float) -> model_pb2.DeviceNumerics:
    return model_pb2.DeviceNumerics(
        device="NVIDIA H200",
        provider="CUDAExecutionProvider",
        tf32=tf32,
        rows=256,
        parity_mu=parity,
        parity_log_var=2 * parity,
        parity_x_hat=3 * parity,
        within_bucket_difference=0,
        across_buckets_difference=4 * parity,
        cpu_difference=5 * parity,
        onnxruntime_version="1.31.0",
    )


def test_every_entry_in_the_manifests_order() -> None:
    entries = [entry(tf32=False, parity=0.25), entry(tf32=True, parity=0.5)]
    exact, rounded = ModelInfo.from_message(
        model_pb2.ModelInfo(name="digits", device_numerics=entries)
    ).device_numerics
    assert dataclasses.astuple(exact) == (
        *("NVIDIA H200", "CUDAExecutionProvider", False, 256),
        *(0.25, 0.5, 0.75, 0.0, 1.0, 1.25, "1.31.0"),
    )
    assert rounded.tf32
    assert rounded.cpu_difference == 2.5


def test_none_where_none_was_measured() -> None:
    assert ModelInfo.from_message(model_pb2.ModelInfo(name="digits")).device_numerics == ()


def test_an_entry_is_a_value_that_can_be_read() -> None:
    one, same = (DeviceNumerics.from_message(entry(tf32=True, parity=0.5)) for _ in range(2))
    assert one == same
    assert hash(one) == hash(same)
    assert "device='NVIDIA H200'" in repr(one)
    assert "tf32=True" in repr(one)
    assert "across_buckets_difference=2.0" in repr(one)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.parity_mu = 0  # type: ignore[misc]
