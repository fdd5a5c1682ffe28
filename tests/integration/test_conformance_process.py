"""The process that users start, on either transport: SIGTERM under mixed load, and the fallback."""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import grpc
import pytest

from bench.http2 import framed
from support.raw_calls import ENCODE, REQUEST, begin, channel_to, ending, ending_of
from support.raw_http2 import Wire, headers
from support.servers import make_app, running_app, scrape, server_process
from support.streams import Stream
from vaeserve_server import core_queue
from vaeserve_server.errors import StartupError

OK_ROWS = 'vaeserve_rows_total{graph="encoder",model="digits"}'
Code = grpc.StatusCode


class Load:
    """Callers of every kind, until the server refuses them."""

    def __init__(self, address: str) -> None:
        self.ends: Counter[Code] = Counter()
        self._address = address
        self._over = threading.Event()
        self.patient = 2
        kinds = (*[self._patient] * self.patient, self._fickle, self._streaming, self._breaking_off)
        self._threads = [threading.Thread(target=self._repeat, args=(kind,)) for kind in kinds]
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def _repeat(self, kind: Callable[[grpc.Channel], None]) -> None:
        with grpc.insecure_channel(self._address) as channel, suppress(OSError):
            while not self._over.is_set():
                kind(channel)

    def _patient(self, channel: grpc.Channel) -> None:
        """Ends with the first call that is refused."""
        code = ending(channel, ENCODE, REQUEST).code
        self.ends[code] += 1
        if code is not Code.OK:
            self._over.wait(60)

    def _fickle(self, channel: grpc.Channel) -> None:
        calls = [begin(channel, ENCODE, REQUEST) for _ in range(20)]
        for call in calls[::2]:
            call.cancel()
        for call in calls:
            ending_of(call)

    def _streaming(self, channel: grpc.Channel) -> None:
        stream = Stream(channel)
        stream.send(*[REQUEST] * 20)
        with suppress(grpc.RpcError, StopIteration):
            for _ in range(10):
                next(stream.answers)
        stream.answers.cancel()
        stream.end()

    def _breaking_off(self, _: grpc.Channel) -> None:
        wire = Wire(int(self._address.rpartition(":")[2]))
        try:
            wire.open()
            for number in range(1, 100, 2):
                wire.call(number, headers())
                wire.data(number, framed(REQUEST)[: number * 8], end=number % 4 == 1)
                if number % 3 == 0:
                    wire.reset(number)
        finally:
            wire.socket.close()


@pytest.mark.parametrize("drain_delay", ["0", "0.3"])
def test_sigterm_under_mixed_load(own_repository: Path, transport: str, drain_delay: str) -> None:
    options = ("--transport", transport, "--drain-delay", drain_delay, "--grace", "5")
    with server_process(own_repository, *options) as server:
        assert server.wait_for("listening")["transport"] == transport
        ready = server.wait_for("ready")
        load = Load(ready["address"])
        while scrape(ready["metrics_address"])[OK_ROWS] < 1000:
            assert server.process.poll() is None
        server.terminate()
        code, err = server.finish()
        load.finish()
    assert (code, server.records[-1]["message"]) == (0, "stopped")
    assert not [record for record in server.records if record["level"] in ("ERROR", "CRITICAL")]
    assert "Check failed" not in err
    # C-core cancels what comes between its decision to stop and the news of it.
    assert load.ends.keys() <= {Code.OK, Code.UNAVAILABLE, Code.CANCELLED}
    assert load.ends.total() - load.ends[Code.OK] == load.patient


@pytest.fixture
def untried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_queue, "TRIED", ((0, 1), (0, 2)))


@pytest.mark.usefixtures("untried")
def test_auto_falls_back(own_repository: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running_app(own_repository, transport="auto") as app, channel_to(app) as channel:
        assert ending(channel, ENCODE, REQUEST).code is Code.OK
    (warning,) = (record for record in caplog.records if record.levelname == "WARNING")
    assert warning.message == "using the standard transport"
    assert "is not one of 0.1 to 0.2" in warning.__dict__["problem"]


@pytest.mark.usefixtures("untried")
def test_lane_insists(own_repository: Path) -> None:
    with pytest.raises(StartupError, match=r"--transport lane: grpcio .* which were tried"):
        make_app(own_repository, transport="lane")


def test_lane_insists_with_exit_code_3(own_repository: Path) -> None:
    code = (
        "from vaeserve_server import core_queue\n"
        "from vaeserve_server.cli import serve\n"
        "core_queue.TRIED = ((0, 1), (0, 2))\n"
        "serve()\n"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-c", code, str(own_repository), "--transport", "lane"),
            *("--address", "127.0.0.1:0", "--metrics-address", "127.0.0.1:0"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert done.stderr.startswith("Error: --transport lane: grpcio")
