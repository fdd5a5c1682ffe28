"""Streams, on either transport: order, ends, callers who leave, memory."""

import grpc
import pytest

from support.raw_calls import ENCODE, REQUEST, VAE, Counts, channel_to, ending, padded
from support.servers import held_engines
from support.streams import ENCODE_STREAM, Stream
from vaeserve.v1 import vae_service_pb2 as pb
from vaeserve_server.app import App

SAMPLE_STREAM = f"{VAE}/SampleStream"
Code = grpc.StatusCode


def test_answers_in_order_until_the_first_error(served: App) -> None:
    counts = Counts(served, ENCODE_STREAM)
    with channel_to(served) as channel:
        answer = ending(channel, ENCODE, REQUEST).reply
        stream = Stream(channel)
        stream.send(*[REQUEST] * 50, b"\xff", REQUEST)
        assert stream.rest() == (Code.INVALID_ARGUMENT, [answer] * 50)
        whole = Stream(channel)
        whole.send(*[REQUEST] * 50)
        whole.end()
        assert whole.rest() == (Code.OK, [answer] * 50)
    until_counted = {"started": 2, "sent": 100, "OK": 1, "INVALID_ARGUMENT": 1}
    counts.settle_somehow()
    assert {name: counts()[name] for name in until_counted} == until_counted


def test_a_server_stream_takes_one_message(served: App) -> None:
    request = pb.SampleRequest(model="digits", n=3, seed=1).SerializeToString()
    with channel_to(served) as channel:
        nothing, one, two, never_ended = (Stream(channel, SAMPLE_STREAM) for _ in range(4))
        for stream, messages in ((nothing, 0), (one, 1), (two, 2)):
            stream.send(*[request] * messages)
            stream.end()
        never_ended.send(request)
        assert nothing.rest() == (Code.UNIMPLEMENTED, [])
        assert one.rest() == two.rest() == never_ended.rest()
        never_ended.end()


@pytest.mark.parametrize("sent", [0, 1])
@pytest.mark.parametrize("leaves", ["cancels", "runs out of time"])
def test_leaving_while_nothing_happens(
    served: App, transport: str, sent: int, leaves: str, caplog: pytest.LogCaptureFixture
) -> None:
    counts = Counts(served, ENCODE_STREAM)
    with channel_to(served) as channel:
        stream = Stream(channel, timeout=60 if leaves == "cancels" else 0.5)
        stream.send(*[REQUEST] * sent)
        for _ in range(sent):
            assert next(stream.answers)
        # What the connection asks later is answered after the stream has come.
        assert ending(channel, ENCODE, REQUEST).code is Code.OK
        if leaves == "cancels":
            stream.answers.cancel()
        code = Code.CANCELLED if leaves == "cancels" else Code.DEADLINE_EXCEEDED
        assert stream.rest() == (code, [])
        stream.end()
    counts.settle_somehow()
    # grpcio's public API may say of a caller who is gone that no more messages will come.
    left = sum(counts().get(name, 0) for name in ("CANCELLED", "DEADLINE_EXCEEDED"))
    assert left == 1 or (transport == "standard" and counts()["OK"] == 1)
    assert not caplog.records


@pytest.mark.parametrize("path", [ENCODE_STREAM, SAMPLE_STREAM])
def test_leaving_while_the_batch_runs(patient: App, path: str) -> None:
    counts = Counts(patient, path)
    sample = pb.SampleRequest(model="digits", n=2).SerializeToString()
    with channel_to(patient) as channel, held_engines() as engines:
        leaver, stayer = Stream(channel, path), Stream(channel)
        leaver.send(sample if path == SAMPLE_STREAM else REQUEST)
        engines.wait_for_a_run()
        stayer.send(REQUEST)
        leaver.answers.cancel()
        assert leaver.rest() == (Code.CANCELLED, [])
        assert ending(channel, "/vaeserve.v1.ModelService/ListModels", b"").code is Code.OK
        engines.release()
        stayer.end()
        code, (answer,) = stayer.rest()
        assert (code, answer) == (Code.OK, ending(channel, ENCODE, REQUEST).reply)
        leaver.end()
    counts.settle_somehow()
    assert counts()["CANCELLED"] == 1


def test_whoever_does_not_read_is_not_read_either(served: App) -> None:
    """Only a bounded part of a stream is taken on before its answers are."""
    counts = Counts(served, ENCODE_STREAM)
    large = padded(512 << 10)
    with channel_to(served) as channel:
        stream = Stream(channel, timeout=60)
        stream.send(*[large] * 200)
        stream.end()
        assert next(stream.answers)
        assert ending(channel, ENCODE, REQUEST).code is Code.OK
        code, answers = stream.rest()
    assert (code, len(answers)) == (Code.OK, 199)
    counts.settle(started=1, received=200, sent=200, OK=1)


def test_timings_of_a_long_stream_are_its_first(served: App) -> None:
    """All of them would grow with it, and no trailer holds so many."""
    with channel_to(served) as channel:
        stream = Stream(channel, metadata=(("vaeserve-timing", "1"),))
        stream.send(*[REQUEST] * 500)
        stream.end()
        code, answers = stream.rest()
        assert (code, len(answers)) == (Code.OK, 500)
        ((key, entries),) = stream.answers.trailing_metadata()
        assert key == "vaeserve-timing"
        assert entries.count(",") == 63
