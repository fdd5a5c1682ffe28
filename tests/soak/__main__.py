"""A million calls through one server, with callers who leave in between: nothing may grow.

h2load makes the calls; a thread of this process cancels, resets and streams beside it. Run by
`make soak`; prints a line a step and fails where something grew.
"""

import argparse
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import grpc

from bench.h2load import Load
from bench.http2 import framed
from support.raw_calls import ENCODE, REQUEST, VAE, begin, ending, ending_of
from support.raw_http2 import Wire, headers
from support.repositories import make_repository
from support.servers import ServerProcess, scrape, server_process
from support.streams import Stream

STEPS = 10
STREAMS = 64
MAY_GROW_MB = 4.0
CORE_THREADS = 2  # by which C-core's own pool varies


class Footprint(NamedTuple):
    """What a server holds when nobody calls it."""

    calls: int
    rss_mb: float
    threads: int
    files: int
    in_flight: float


class Disturbance:
    """Callers who leave, as long as it lasts."""

    def __init__(self, address: str) -> None:
        self.rounds = 0
        self._address = address
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            with grpc.insecure_channel(self._address) as channel:
                cancel(channel)
                leave_streams(channel)
            reset(self._address)
            self.rounds += 1
            self._over.wait(0.05)


def cancel(channel: grpc.Channel) -> None:
    calls = [begin(channel, ENCODE, REQUEST, timeout=number / 5000) for number in range(1, 21)]
    for call in calls[::2]:
        call.cancel()
    for call in calls:
        ending_of(call)


def leave_streams(channel: grpc.Channel) -> None:
    for path in ("EncodeStream", "DecodeStream"):
        stream = Stream(channel, f"{VAE}/{path}")
        stream.send(*[REQUEST] * 20)
        with suppress(grpc.RpcError, StopIteration):
            next(stream.answers)
        stream.answers.cancel()
        stream.end()


def reset(address: str) -> None:
    wire = Wire(int(address.rpartition(":")[2]))
    with suppress(OSError):
        wire.open()
        for number in range(1, 80, 2):
            wire.call(number, headers())
            wire.data(number, framed(REQUEST)[: number * 10], end=number % 4 == 1)
            if number % 3:
                wire.reset(number)
    wire.socket.close()


def footprint(server: ServerProcess, metrics: str) -> Footprint:
    """Wait until nobody is in flight, then look."""
    process = Path(f"/proc/{server.process.pid}")
    while in_flight := sum(
        value for name, value in scrape(metrics).items() if name.startswith("vaeserve_in_flight")
    ):
        pass
    status = dict(
        line.split(":", 1) for line in (process / "status").read_text().splitlines() if ":" in line
    )
    started = sum(
        value
        for name, value in scrape(metrics).items()
        if name.startswith("grpc_server_started_total")
    )
    return Footprint(
        int(started),
        int(status["VmRSS"].split()[0]) / 1024,
        int(status["Threads"]),
        len(list((process / "fd").iterdir())),
        in_flight,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--transport", choices=["lane", "standard"], default="lane")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        repository = make_repository(Path(folder))
        with server_process(repository, "--transport", options.transport) as server:
            ready = server.wait_for("ready")
            soak(server, ready["address"], ready["metrics_address"], options.calls, Path(folder))
            server.terminate()
            code, errors = server.finish()
    assert code == 0, errors


def soak(server: ServerProcess, address: str, metrics: str, calls: int, folder: Path) -> None:
    with grpc.insecure_channel(address) as channel:
        answer = ending(channel, ENCODE, REQUEST).reply
    assert answer is not None
    load = Load(f"http://{address}{ENCODE}", REQUEST, len(answer), folder)
    seen = []
    for _ in range(STEPS):
        disturbance = Disturbance(address)
        shot = load.closed_loop(STREAMS, calls // STEPS)
        disturbance.end()
        seen.append(footprint(server, metrics))
        print(seen[-1], f"{shot.requests / shot.seconds:.0f}/s, {disturbance.rounds} rounds")  # noqa: T201
    first, last = seen[0], seen[-1]
    grown = last.rss_mb - first.rss_mb
    print(f"{last.calls - first.calls} calls: {grown:+.1f} MB, in flight {last.in_flight:.0f}")  # noqa: T201
    assert grown < MAY_GROW_MB
    assert last.files == first.files
    assert last.threads <= first.threads + CORE_THREADS


if __name__ == "__main__":
    main()
