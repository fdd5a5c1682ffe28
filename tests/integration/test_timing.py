"""`vaeserve-timing: 1` asks where a call's time went; the answer is in the trailing metadata."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from support.servers import held_engines, running_app, wait_for
from vaeserve.v1 import arrays, vae_service_pb2 as pb
from vaeserve.v1.vae_service_pb2_grpc import VaeServiceStub
from vaeserve_server.app import App

KEY = "vaeserve-timing"
ASK = ((KEY, "1"),)
ENTRY = re.compile(r"digits-(encoder|decoder);queue_us=(\d+);run_us=(\d+);rows=(\d+);close=(\w+)")
TENSOR = arrays.to_tensor(np.random.default_rng(0).random((3, 1, 8, 8), np.float32))
ENCODE = pb.EncodeRequest(model="digits", input=TENSOR)


@pytest.fixture(params=["lane", "standard"])
def served(own_repository: Path, request: pytest.FixtureRequest) -> Iterator[App]:
    with running_app(own_repository, transport=request.param, placement="thread") as running:
        yield running


@pytest.fixture
def stub(served: App) -> Iterator[VaeServiceStub]:
    with grpc.insecure_channel(f"127.0.0.1:{served.port}") as channel:
        yield VaeServiceStub(channel)


def entries(call: Any) -> list[tuple[str, int, int, int, str]]:
    """Graph, waited and run microseconds, rows, and close reason, of each batch."""
    (value,) = (value for key, value in call.trailing_metadata() if key == KEY)
    found = []
    for entry in value.split(","):
        match = ENTRY.fullmatch(entry)
        assert match, entry
        graph, queue_us, run_us, rows, reason = match.groups()
        found.append((graph, int(queue_us), int(run_us), int(rows), reason))
    return found


def test_an_entry_a_batch(stub: VaeServiceStub) -> None:
    reply, call = stub.Encode.with_call(ENCODE, timeout=30, metadata=ASK)
    assert reply == stub.Encode(ENCODE, timeout=30)
    ((graph, _, run_us, rows, reason),) = entries(call)
    assert (graph, rows, reason) == ("encoder", 3, "idle")
    assert run_us > 0
    request = pb.ReconstructRequest(model="digits", input=TENSOR)
    _, call = stub.Reconstruct.with_call(request, timeout=30, metadata=ASK)
    assert [(entry[0], entry[3]) for entry in entries(call)] == [("encoder", 3), ("decoder", 3)]


def test_an_entry_a_message(stub: VaeServiceStub) -> None:
    call = stub.EncodeStream(iter([ENCODE] * 5), timeout=30, metadata=ASK)
    assert len(list(call)) == 5
    seen = entries(call)
    assert [entry[0] for entry in seen] == ["encoder"] * 5
    assert all(entry[3] % 3 == 0 for entry in seen)
    samples = stub.SampleStream(pb.SampleRequest(model="digits", n=600), timeout=30, metadata=ASK)
    parts = [part.x_hat.shape[0] for part in samples]
    seen = entries(samples)
    assert len(seen) == len(parts)
    assert {entry[0] for entry in seen} == {"decoder"}


@pytest.mark.parametrize("metadata", [(), ((KEY, "0"),), (("other", "1"),)])
def test_nobody_else_is_told(stub: VaeServiceStub, metadata: Any) -> None:
    _, unary = stub.Encode.with_call(ENCODE, timeout=30, metadata=metadata)
    stream = stub.EncodeStream(iter([ENCODE]), timeout=30, metadata=metadata)
    list(stream)
    for call in (unary, stream):
        assert KEY not in dict(call.trailing_metadata())


def test_waiting_and_running_are_told_apart(served: App, stub: VaeServiceStub) -> None:
    held_s = 0.3
    with held_engines() as engines:
        first = stub.Encode.future(ENCODE, timeout=30, metadata=ASK)
        engines.wait_for_a_run()
        second = stub.Encode.future(ENCODE, timeout=30, metadata=ASK)
        third = stub.Encode.future(ENCODE, timeout=30)
        wait_for(served, 'vaeserve_queue_rows{graph="encoder",model="digits"}', 6)
        threading.Timer(held_s, engines.release).start()
        first.result()
        third.result()
        ((_, _, ran, rows, _),) = entries(first)
        assert rows == 3
        assert ran >= held_s * 1e6
        ((_, waited, ran, rows, _),) = entries(second)
        assert rows == 6
        assert waited >= held_s * 1e6 > ran
