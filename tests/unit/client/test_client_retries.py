"""Deadlines, retries and closing of the client, against a real server."""

import threading
import time
from typing import Any

import grpc
import pytest

import vaeserve
from unit.client.scripted_server import Failure, Script
from vaeserve import Client
from vaeserve.v1 import vae_service_pb2 as pb

# --- deadlines and retries -------------------------------------------------------------------

FULL = grpc.StatusCode.RESOURCE_EXHAUSTED


def test_every_call_has_a_deadline(connect: Any, script: Script) -> None:
    digits = connect(script.address).model("digits")
    digits.sample(1)
    digits.sample(1, timeout=5)
    connect(script.address, timeout=7).models()
    given, own, set_ = script.timeouts[1:]
    assert [given, own, set_] == pytest.approx([30, 5, 7], abs=1)


def test_parts_share_one_deadline(script: Script) -> None:
    script.max_rows = 1
    script.before = lambda _: time.sleep(0.1)
    with Client(script.address) as client:
        client.model("digits").sample(12, timeout=2)  # four parts at a time
    first, *_, last = script.timeouts[1:]
    assert last < first - 0.15


def test_a_deadline_passes(client: Client, script: Script) -> None:
    answer = threading.Event()
    digits = client.model("digits")
    digits.sample(1)
    script.before = lambda _: answer.wait(10)
    try:
        with pytest.raises(TimeoutError) as caught:
            digits.sample(1, timeout=0.1)
    finally:
        answer.set()
    assert isinstance(caught.value, vaeserve.DeadlineExceeded)
    assert f"no answer from {script.address} within the timeout" in str(caught.value)


def test_a_full_queue_is_waited_for(client: Client, script: Script) -> None:
    script.failures.extend([Failure(FULL, "QUEUE_FULL", retry_after=0.03)] * 9)
    began = time.monotonic()
    client.model("digits").sample(1)
    assert time.monotonic() - began >= 0.27
    assert len(script.sent(pb.SampleRequest)) == 10


def test_without_retries_the_first_refusal_is_told(connect: Any, script: Script) -> None:
    script.failures.append(Failure(FULL, "QUEUE_FULL", retry_after=0.01))
    with pytest.raises(vaeserve.Overloaded) as caught:
        connect(script.address, retries=0).model("digits").sample(1)
    assert caught.value.retry_after == pytest.approx(0.01)
    assert isinstance(caught.value.__cause__, grpc.RpcError)


def test_a_full_queue_is_not_waited_for_beyond_the_deadline(client: Client, script: Script) -> None:
    script.failures.append(Failure(FULL, "QUEUE_FULL", retry_after=60))
    began = time.monotonic()
    with pytest.raises(vaeserve.Overloaded):
        client.model("digits").sample(1, timeout=2)
    assert time.monotonic() - began < 1
    assert len(script.sent(pb.SampleRequest)) == 1


@pytest.mark.parametrize(
    "failure",
    [
        Failure(grpc.StatusCode.INVALID_ARGUMENT, "NOT_FINITE", retry_after=0.01),
        Failure(FULL, "OUT_OF_MEMORY", retry_after=0.01),
        Failure(FULL, "QUEUE_FULL"),
        Failure(grpc.StatusCode.DEADLINE_EXCEEDED, "QUEUE_WAIT"),
        Failure(grpc.StatusCode.INTERNAL, "INTERNAL"),
    ],
    ids=lambda failure: failure.reason,
)
def test_what_a_retry_cannot_mend_is_sent_once(
    client: Client, script: Script, failure: Failure
) -> None:
    script.failures.append(failure)
    with pytest.raises(vaeserve.VaeserveError):
        client.model("digits").sample(1)
    assert len(script.sent(pb.SampleRequest)) == 1


@pytest.mark.parametrize(("retries", "attempts"), [(3, 4), (0, 1)])
def test_unavailable_is_retried_by_the_channel(
    connect: Any, script: Script, retries: int, attempts: int
) -> None:
    script.failures.extend([Failure(grpc.StatusCode.UNAVAILABLE, "LOADING")] * 9)
    with pytest.raises(vaeserve.Unavailable, match="LOADING"):
        connect(script.address, retries=retries).model("digits").sample(1)
    assert len(script.sent(pb.SampleRequest)) == attempts


def test_no_retries_shows_the_first_refusal(connect: Any, script: Script) -> None:
    script.failures.append(Failure(FULL, "QUEUE_FULL", retry_after=0.01))
    with pytest.raises(vaeserve.Overloaded):
        connect(script.address, retries=0).model("digits").sample(1)
    assert len(script.sent(pb.SampleRequest)) == 1


def test_no_server_is_unavailable(connect: Any) -> None:
    with pytest.raises(ConnectionError):
        connect("127.0.0.1:1", retries=0).models(timeout=5)


# --- closing ---------------------------------------------------------------------------------


def test_calls_after_close_say_so(client: Client) -> None:
    digits = client.model("digits")
    digits.sample(1)
    client.close()
    client.close()
    with pytest.raises(vaeserve.ClientClosed, match="closed"):
        digits.sample(1)
    with pytest.raises(RuntimeError, match="closed"):
        client.models()


def test_close_ends_a_call_under_way(script: Script) -> None:
    arrived, answer = threading.Event(), threading.Event()

    def hold(_: Any) -> None:
        arrived.set()
        answer.wait(10)

    script.before = hold
    client = Client(script.address)
    failures: list[BaseException] = []

    def call() -> None:
        try:
            client.model("digits").sample(1)
        except vaeserve.VaeserveError as exc:
            failures.append(exc)

    thread = threading.Thread(target=call)
    thread.start()
    assert arrived.wait(10)
    client.close()
    thread.join(10)
    answer.set()
    assert [type(failure) for failure in failures] == [vaeserve.ClientClosed]


def test_close_ends_the_wait_for_a_full_queue(script: Script) -> None:
    refused = threading.Event()
    script.before = lambda _: refused.set()
    script.failures.append(Failure(FULL, "QUEUE_FULL", retry_after=20))
    client = Client(script.address)

    def close_then() -> None:
        refused.wait(10)
        client.close()

    threading.Thread(target=close_then).start()
    began = time.monotonic()
    with pytest.raises((vaeserve.ClientClosed, vaeserve.Cancelled)):
        client.model("digits").sample(1)
    assert time.monotonic() - began < 10
