"""Fixtures of the Open Inference Protocol's tests, and servers of either transport."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from support.servers import running_app
from support.triton import Triton, new_pool
from vaeserve.inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from vaeserve_server.app import App


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


TRANSPORTS = ("lane", "standard")


@pytest.fixture(scope="session")
def transports(repository: Path) -> Iterator[dict[str, App]]:
    """A server of each transport."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(running_app(repository, transport=name))
            for name in TRANSPORTS
        }


@pytest.fixture(scope="session")
def patient_transports(repository: Path) -> Iterator[dict[str, App]]:
    """The same, which run no batch on the thread that reads calls, so that tests can hold them."""
    settings = {"placement": "thread", "max_queue_rows": 20_000}
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(running_app(repository, transport=name, **settings))
            for name in TRANSPORTS
        }


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    """Either transport."""
    return str(request.param)


@pytest.fixture
def served(transports: dict[str, App], transport: str) -> App:
    """The server of a transport."""
    return transports[transport]


@pytest.fixture
def patient(patient_transports: dict[str, App], transport: str) -> App:
    """The server of a transport whose engines can be held."""
    return patient_transports[transport]
