"""Fixtures of the Open Inference Protocol's tests."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import grpc
import pytest

from support.triton import Triton, new_pool
from vaeserve.inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub


@pytest.fixture(scope="session")
def triton_pool() -> Iterator[ProcessPoolExecutor]:
    """The process that has tritonclient."""
    with new_pool() as pool:
        yield pool


@pytest.fixture
def triton(triton_pool: ProcessPoolExecutor, address: str) -> Triton:
    """tritonclient against the server of this session."""
    return Triton(triton_pool, address)


@pytest.fixture
def oip(address: str) -> Iterator[GRPCInferenceServiceStub]:
    """Our own stub of the protocol against the server of this session."""
    with grpc.insecure_channel(address) as channel:
        yield GRPCInferenceServiceStub(channel)
