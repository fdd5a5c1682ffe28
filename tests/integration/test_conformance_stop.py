"""Stopping with calls in every state, on either transport: answered, refused, ended; no crash."""

import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from bench.http2 import framed
from support.raw_calls import (
    ENCODE,
    REQUEST,
    ROWS,
    VAE,
    Counts,
    Ending,
    begin,
    channel_to,
    ending,
    ending_of,
    until,
)
from support.raw_http2 import headers, wire_to
from support.servers import held_engines, make_app, running_app, series
from support.streams import Stream
from vaeserve.v1 import vae_service_pb2 as pb
from vaeserve.v1.arrays import to_tensor
from vaeserve_server.app import App

MODELS = "/vaeserve.v1.ModelService/ListModels"
RECONSTRUCT, SCORE, EDIT = (f"{VAE}/{name}" for name in ("Reconstruct", "Score", "Edit"))
X = to_tensor(ROWS)
SEVERAL_RUNS = {
    RECONSTRUCT: pb.ReconstructRequest(model="digits", input=X).SerializeToString(),
    SCORE: pb.ScoreRequest(model="digits", input=X, draws=1000).SerializeToString(),
    EDIT: pb.EditRequest(model="digits", input=X, amounts={"smile": 1.0}).SerializeToString(),
}
GRACE_S = 20.0
Code = grpc.StatusCode


class Stopping:
    """A server that is being stopped."""

    def __init__(self, app: App, grace_s: float = GRACE_S) -> None:
        self._thread = threading.Thread(target=app.stop, args=(grace_s,))
        self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Whether it has ended in time."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()


def refused(channel: grpc.Channel) -> Ending:
    """The first refusal of a connection that was there before."""
    while (last := ending(channel, MODELS, b"")).code is Code.OK:
        pass
    return last


def test_what_was_begun_is_answered(own_repository: Path, transport: str) -> None:
    before = set(threading.enumerate())
    app = make_app(own_repository, transport=transport, placement="thread")
    app.start()
    with ExitStack() as open_ones, held_engines() as engines:
        channel = open_ones.enter_context(channel_to(app))
        running = begin(channel, ENCODE, REQUEST)
        engines.wait_for_a_run()
        queued = [begin(channel, ENCODE, REQUEST) for _ in range(5)]
        stream = Stream(channel)
        stream.send(REQUEST, REQUEST)
        # A stream's second request is taken on once the first is answered.
        until(lambda: series(app)['vaeserve_queue_rows{graph="encoder",model="digits"}'], 12)
        stream.end()
        idle = open_ones.enter_context(channel_to(app))
        assert ending(idle, MODELS, b"").code is Code.OK
        stopping = Stopping(app)
        no = refused(channel)
        assert (no.code, no.reason) == (Code.UNAVAILABLE, "DRAINING")
        engines.release()
        answers = {call.result() for call in (running, *queued)}
        code, replies = stream.rest()
        assert (code, {*replies}) == (Code.OK, answers)
        assert (len(answers), len(replies)) == (1, 2)
        assert stopping.wait(GRACE_S / 2)
        assert ending(channel, MODELS, b"", timeout=5).code is Code.UNAVAILABLE
    until(lambda: set(threading.enumerate()) - before, set())


@pytest.mark.parametrize("placement", ["thread", "inline"])
@pytest.mark.parametrize("path", [RECONSTRUCT, SCORE, EDIT])
def test_a_call_of_several_runs_is_finished(
    own_repository: Path, transport: str, placement: str, path: str
) -> None:
    app = make_app(own_repository, transport=transport, placement=placement)
    app.start()
    with channel_to(app) as channel, held_engines(lane_too=True) as engines:
        call = begin(channel, path, SEVERAL_RUNS[path])
        engines.wait_for_a_run()
        stopping = Stopping(app)
        until(lambda: app._draining, True)
        engines.release()
        assert call.result()
        assert stopping.wait(GRACE_S / 2)


def test_a_stream_of_samples_is_finished(own_repository: Path, transport: str) -> None:
    app = make_app(own_repository, transport=transport)
    app.start()
    request = pb.SampleRequest(model="digits", n=10_240, seed=1).SerializeToString()
    with channel_to(app) as channel:
        sample_stream: Any = channel.unary_stream(f"{VAE}/SampleStream")
        stream = sample_stream(request, timeout=60)
        rows = [next(stream)]
        stopping = Stopping(app)
        until(lambda: app._draining, True)
        rows += stream
        assert sum(pb.SampleResponse.FromString(row).x_hat.shape[0] for row in rows) == 10_240
        assert stopping.wait(GRACE_S / 2)


def test_a_call_that_stays_open_keeps_nobody_on_a_server_that_stops(
    own_repository: Path, transport: str
) -> None:
    app = make_app(own_repository, transport=transport)
    app.start()
    with channel_to(app) as channel:
        stream = Stream(channel)
        stream.send(REQUEST)
        assert next(stream.answers)
        stopping = Stopping(app)
        until(lambda: listens(app), False)  # so that others connect elsewhere
        stream.send(REQUEST)
        stream.end()
        code, replies = stream.rest()
        assert (code, len(replies)) == (Code.OK, 1)
        assert stopping.wait(GRACE_S / 2)


def listens(app: App) -> bool:
    try:
        with wire_to(app):
            return True
    except ConnectionError:
        return False


def test_what_never_ends_is_ended_with_the_grace(own_repository: Path, transport: str) -> None:
    before = set(threading.enumerate())
    app = make_app(own_repository, transport=transport)
    app.start()
    with ExitStack() as open_ones:
        channel = open_ones.enter_context(channel_to(app))
        idle_stream, used_stream = (Stream(channel) for _ in range(2))
        used_stream.send(REQUEST)
        assert next(used_stream.answers)
        watch = Stream(channel, "/grpc.health.v1.Health/Watch")
        watch.send(b"")
        assert next(watch.answers) == b"\x08\x01"
        half = open_ones.enter_context(wire_to(app)).open()
        half.call(1, headers())
        half.data(1, framed(REQUEST)[:100], end=False)
        open_ones.enter_context(wire_to(app))  # says nothing at all
        # Does not answer when it is told that the server goes away.
        open_ones.enter_context(wire_to(app)).open()
        assert Stopping(app, grace_s=1).wait(10)
        for stream in (idle_stream, used_stream, watch):
            assert stream.rest()[0] in (Code.CANCELLED, Code.UNAVAILABLE)
            stream.end()
    until(lambda: set(threading.enumerate()) - before, set())


def test_what_has_arrived_is_answered(own_repository: Path) -> None:
    """Calls that the lane has not looked at when the stop begins."""
    app = make_app(own_repository, transport="lane", placement="inline")
    app.start()
    with channel_to(app) as channel, held_engines(lane_too=True) as engines:
        running = begin(channel, ENCODE, REQUEST)
        engines.wait_for_a_run()
        arrived = [begin(channel, ENCODE, REQUEST) for _ in range(30)]
        # The health service has threads of its own: what came before this is there as well.
        assert ending(channel, "/grpc.health.v1.Health/Check", b"").code is Code.OK
        stopping = Stopping(app)
        until(lambda: app._draining, True)
        engines.release()
        assert running.result()
        for call in map(ending_of, arrived):
            assert (call.code, call.reason) == (Code.UNAVAILABLE, "DRAINING")
        assert stopping.wait(GRACE_S / 2)


def test_a_run_that_never_ends_does_not_hold_the_stop(own_repository: Path, transport: str) -> None:
    app = make_app(own_repository, transport=transport, placement="thread")
    app.start()
    with channel_to(app) as channel, held_engines() as engines:
        call = begin(channel, ENCODE, REQUEST)
        engines.wait_for_a_run()
        assert Stopping(app, grace_s=0.5).wait(10)
        assert ending_of(call).code is Code.UNAVAILABLE
        engines.release()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_starting_and_stopping_leaves_nothing(own_repository: Path, transport: str) -> None:
    def once() -> tuple[int, int]:
        with running_app(own_repository, transport=transport) as app:
            with channel_to(app) as channel:
                counts = Counts(app)
                assert ending(channel, ENCODE, REQUEST).code is Code.OK
                stream = Stream(channel, f"{VAE}/EncodeStream")
                stream.send(REQUEST)
                assert next(stream.answers)
                stream.end()
                assert stream.rest() == (Code.OK, [])
            counts.settle_somehow()
        return threading.active_count(), open_files()

    once()
    threads, files = once()
    for _ in range(5):
        once()
    until(lambda: threading.active_count() <= threads, True)
    until(lambda: open_files() <= files, True)
