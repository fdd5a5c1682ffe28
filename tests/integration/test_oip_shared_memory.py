"""System shared memory: the same answers, and nothing that a caller does harms the server."""

import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from support import triton as calls
from support.failures import failure
from support.oip import infer_request, outputs_of, parameters
from support.servers import held_engines, running_app
from support.triton import Triton
from vaeserve.inference import grpc_service_pb2 as pb
from vaeserve.inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub

INVALID, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
FOLDER = Path("/dev/shm")  # noqa: S108
X = np.random.default_rng(2).random((4, 1, 8, 8), np.float32)
MU_BYTES = 4 * 20 * 4

pytestmark = pytest.mark.skipif(not os.access(FOLDER, os.W_OK), reason="there is no /dev/shm")


@pytest.fixture(scope="module")
def shared(repository: Path) -> Iterator[str]:
    """Address of a server with shared memory."""
    with running_app(repository, system_shared_memory=True, placement="thread") as app:
        yield f"127.0.0.1:{app.port}"


@pytest.fixture
def oip(shared: str) -> Iterator[GRPCInferenceServiceStub]:
    """A stub of that server, which must still answer, without regions, when the test is over."""
    with grpc.insecure_channel(shared) as channel:
        stub = GRPCInferenceServiceStub(channel)
        yield stub
        stub.SystemSharedMemoryUnregister(pb.SystemSharedMemoryUnregisterRequest(), timeout=10)
        status = stub.SystemSharedMemoryStatus(pb.SystemSharedMemoryStatusRequest(), timeout=10)
        assert not status.regions
        stub.ModelInfer(infer_request("digits_encoder", X), timeout=10)


@contextmanager
def an_object(data: bytes) -> Iterator[Path]:
    """An object of shared memory; its key is the file's name."""
    path = FOLDER / f"vaeserve-test-{secrets.token_hex(8)}"
    path.write_bytes(data)
    try:
        yield path
    finally:
        path.unlink()


def register(oip: GRPCInferenceServiceStub, name: str, key: str, **place: int) -> None:
    request = pb.SystemSharedMemoryRegisterRequest(name=name, key=key, **place)
    oip.SystemSharedMemoryRegister(request, timeout=10)


def in_memory(region: str, **changes: Any) -> pb.ModelInferRequest:
    """A request with its input and its output `mu` in one region, one behind the other."""
    request = infer_request("digits_encoder", X)
    del request.raw_input_contents[:]
    given = {"shared_memory_region": region, "shared_memory_byte_size": X.nbytes}
    wanted = {
        "shared_memory_region": region,
        "shared_memory_byte_size": MU_BYTES,
        "shared_memory_offset": X.nbytes,
    }
    for name, value in changes.items():
        (given if name.startswith("in_") else wanted)[name.partition("_")[2]] = value
    tensor = pb.ModelInferRequest.InferInputTensor(parameters=parameters(given))
    request.inputs[0].MergeFrom(tensor)
    request.outputs.add(name="mu", parameters=parameters(wanted))
    return request


def descriptors(path: Path) -> int:
    """How many of this process's descriptors are of that object."""
    opened = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            opened += descriptor.readlink() == path
    return opened


def truncate(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)


def mu_in(path: Path) -> np.ndarray[Any, Any]:
    data = path.read_bytes()[X.nbytes : X.nbytes + MU_BYTES]
    return np.frombuffer(data, np.float32).reshape(4, 20)


def test_tritonclient(triton: Triton, shared: str) -> None:
    there = Triton(triton.pool, shared)
    got, registered, after = there(calls.through_shared_memory, "digits_encoder", X, MU_BYTES)
    np.testing.assert_array_equal(got, there(calls.infer, "digits_encoder", X)["mu"])
    assert registered["regions"]["in"]["key"] == "/vaeserve_in"
    assert registered["regions"]["out"]["offset"] == "64"
    assert after == {}


def test_input_and_output_in_one_region(oip: GRPCInferenceServiceStub) -> None:
    ours = outputs_of(oip.ModelInfer(infer_request("digits_encoder", X), timeout=10))
    with an_object(b"12345678" + X.tobytes() + bytes(MU_BYTES + 8)) as path:
        register(oip, "r", f"/{path.name}", offset=8, byte_size=X.nbytes + MU_BYTES)
        request = in_memory("r")
        request.outputs.add(name="log_var")
        reply = oip.ModelInfer(request, timeout=10)
        data = path.read_bytes()
        assert (data[:8], data[-8:]) == (b"12345678", bytes(8))
        mu = np.frombuffer(data[8 + X.nbytes : -8], np.float32).reshape(4, 20)
    np.testing.assert_array_equal(mu, ours["mu"])
    # By position, as clients find it.
    assert reply.raw_output_contents[0] == b""
    assert reply.raw_output_contents[1] == ours["log_var"].tobytes()


KEYS = {
    "a path": "../etc/passwd",
    "a path behind a slash": "/../etc/passwd",
    "a sub-folder": "a/b",
    "two slashes": "//a",
    "the folder": ".",
    "its parent": "..",
    "nothing": "",
    "a slash": "/",
    "a byte that ends names": "a\0b",
    "too long": "k" * 10_000,
    "not there": "vaeserve-nobody-made-this",
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS.keys())
def test_keys_that_are_none(oip: GRPCInferenceServiceStub, key: str) -> None:
    code, reason, field, _ = failure(lambda: register(oip, "r", key, byte_size=8))
    assert (code, reason, field) == (INVALID, "INVALID_REGION", "key")


def test_what_is_no_object(oip: GRPCInferenceServiceStub, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(64))
    link, pipe, folder = (FOLDER / f"vaeserve-test-{secrets.token_hex(8)}" for _ in range(3))
    link.symlink_to(secret)
    os.mkfifo(pipe)
    folder.mkdir()
    try:
        for path in (link, pipe, folder):
            code, reason, field, _ = failure(partial(register, oip, "r", path.name, byte_size=8))
            assert (code, reason, field) == (INVALID, "INVALID_REGION", "key")
    finally:
        link.unlink()
        pipe.unlink()
        folder.rmdir()


@pytest.mark.parametrize(
    "place",
    [
        {"byte_size": 0},
        {"byte_size": 65},
        {"offset": 1, "byte_size": 64},
        {"offset": 2**64 - 1, "byte_size": 64},
        {"offset": 64, "byte_size": 2**64 - 1},
    ],
)
def test_regions_outside_the_object(oip: GRPCInferenceServiceStub, place: dict[str, int]) -> None:
    with an_object(bytes(64)) as path:
        code, reason, field, _ = failure(lambda: register(oip, "r", path.name, **place))
    assert (code, reason, field) == (INVALID, "INVALID_REGION", "byte_size")


@pytest.mark.parametrize(
    "changes",
    [
        {"in_shared_memory_offset": -1},
        {"in_shared_memory_offset": MU_BYTES + 1},
        {"in_shared_memory_offset": 2**63 - 1},
        {"in_shared_memory_byte_size": X.nbytes + 1},
        {"in_shared_memory_byte_size": -1},
        {"in_shared_memory_byte_size": "many"},
        {"out_shared_memory_offset": -1},
        {"out_shared_memory_offset": X.nbytes + 1},
        {"out_shared_memory_byte_size": MU_BYTES - 1},
        {"out_shared_memory_offset": 2**63 - 1},
    ],
)
def test_places_outside_the_region(oip: GRPCInferenceServiceStub, changes: dict[str, Any]) -> None:
    with an_object(X.tobytes() + bytes(MU_BYTES)) as path:
        register(oip, "r", path.name, byte_size=X.nbytes + MU_BYTES)
        code, _, field, _ = failure(lambda: oip.ModelInfer(in_memory("r", **changes), timeout=10))
        assert code is INVALID
        assert field is not None
        assert field.startswith("inputs[0]" if next(iter(changes)).startswith("in_") else "outputs")
        assert not mu_in(path).any()


def test_an_object_that_shrinks(oip: GRPCInferenceServiceStub) -> None:
    with an_object(X.tobytes() + bytes(MU_BYTES)) as path:
        register(oip, "r", path.name, byte_size=X.nbytes + MU_BYTES)
        for size, field in ((X.nbytes + 4, "outputs[0]"), (10, None), (0, None)):
            truncate(path, size)
            code, reason, got, message = failure(lambda: oip.ModelInfer(in_memory("r"), timeout=10))
            assert (code, reason) == (INVALID, "INVALID_REGION")
            assert "shrunk" in message
            assert field in (None, got)
            assert path.stat().st_size == size


def test_an_object_that_is_unlinked_lives_on(oip: GRPCInferenceServiceStub) -> None:
    with an_object(X.tobytes() + bytes(MU_BYTES)) as path:
        register(oip, "r", path.name, byte_size=X.nbytes + MU_BYTES)
    oip.ModelInfer(in_memory("r"), timeout=10)


def test_names(oip: GRPCInferenceServiceStub) -> None:
    with an_object(bytes(64)) as path:
        register(oip, "r", path.name, byte_size=64)
        code, reason, field, _ = failure(lambda: register(oip, "r", path.name, byte_size=64))
        assert (code, reason, field) == (INVALID, "REGION_EXISTS", "name")
        for name in ("", "n" * 300):
            code, _, field, _ = failure(partial(register, oip, name, path.name, byte_size=64))
            assert (code, field) == (INVALID, "name")
        status = pb.SystemSharedMemoryStatusRequest(name="nobody")
        code, reason, _, _ = failure(lambda: oip.SystemSharedMemoryStatus(status, timeout=10))
        assert (code, reason) == (MISSING, "REGION_NOT_FOUND")


def test_regions_are_bounded_and_their_descriptors_come_back(
    oip: GRPCInferenceServiceStub,
) -> None:
    with an_object(bytes(64)) as path:
        for number in range(128):
            register(oip, f"r{number}", path.name, byte_size=64)
        code, reason, _, _ = failure(lambda: register(oip, "more", path.name, byte_size=64))
        assert (code, reason) == (INVALID, "TOO_MANY_REGIONS")
        assert descriptors(path) == 128
        oip.SystemSharedMemoryUnregister(pb.SystemSharedMemoryUnregisterRequest(), timeout=10)
        failure(lambda: register(oip, "r", path.name, byte_size=65))
        assert descriptors(path) == 0


def test_unregistered_while_in_use(oip: GRPCInferenceServiceStub) -> None:
    ours = outputs_of(oip.ModelInfer(infer_request("digits_encoder", X), timeout=10))
    with an_object(X.tobytes() + bytes(MU_BYTES)) as path, held_engines() as held:
        register(oip, "r", path.name, byte_size=X.nbytes + MU_BYTES)
        running = oip.ModelInfer.future(in_memory("r"), timeout=30)
        held.wait_for_a_run()
        oip.SystemSharedMemoryUnregister(
            pb.SystemSharedMemoryUnregisterRequest(name="r"), timeout=10
        )
        code, reason, _, _ = failure(lambda: oip.ModelInfer(in_memory("r"), timeout=10))
        assert (code, reason) == (MISSING, "REGION_NOT_FOUND")
        held.release()
        running.result()
        np.testing.assert_array_equal(mu_in(path), ours["mu"])


def test_a_writer_who_never_stops(oip: GRPCInferenceServiceStub) -> None:
    """What was checked is what runs: NaN is refused or not seen, never answered."""
    good, bad = X.tobytes(), np.full_like(X, np.nan).tobytes()
    stop = threading.Event()
    with an_object(good + bytes(MU_BYTES)) as path:
        register(oip, "r", path.name, byte_size=X.nbytes + MU_BYTES)

        def write() -> None:
            with path.open("r+b", buffering=0) as file:
                while not stop.is_set():
                    for data in (bad, good):
                        file.seek(0)
                        file.write(data)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(200):
                try:
                    oip.ModelInfer(in_memory("r"), timeout=10)
                except grpc.RpcError as error:
                    assert error.code() is INVALID  # noqa: PT017
                assert np.isfinite(mu_in(path)).all()
        finally:
            stop.set()
            writer.join()
