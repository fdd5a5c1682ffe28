"""The benchmark's own load clients: they must count what was answered, and nothing else."""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from bench.http2 import FRAME_BYTES

_MESSAGE = bytes(range(256)) * (FRAME_BYTES // 128)  # two frames' worth


@pytest.fixture
def port() -> Iterator[int]:
    """A server whose Double answers each message with itself, twice."""
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Double": grpc.unary_unary_rpc_method_handler(lambda request, _: 2 * request),
        "DoubleStream": grpc.stream_stream_rpc_method_handler(
            lambda requests, _: (2 * request for request in requests)
        ),
    }
    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None).wait()


def _run(module: str, port: int, method: str, folder: Path, *options: str) -> str:
    message = folder / "message.bin"
    message.write_bytes(_MESSAGE)
    command = [sys.executable, "-m", f"bench.{module}", str(port), f"/test.Echo/{method}"]
    done = subprocess.run(
        [*command, str(message), *options],
        env={"PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def _stream(port: int, method: str, folder: Path) -> list[int]:
    options = ("--streams", "3", "--window", "4", "--count", "50")
    return [int(word) for word in _run("stream_client", port, method, folder, *options).split()]


def _open_loop(port: int, method: str, folder: Path) -> dict[str, float]:
    options = ("--connections", "2", "--rate", "400", "--count", "100")
    found: dict[str, float] = json.loads(_run("open_loop_client", port, method, folder, *options))
    return found


def test_streams_count_every_reply(port: int, tmp_path: Path) -> None:
    assert _stream(port, "DoubleStream", tmp_path) == [150, 150 * 2 * len(_MESSAGE)]


def test_a_refused_stream_counts_as_nothing(port: int, tmp_path: Path) -> None:
    assert _stream(port, "Absent", tmp_path) == [0, 0]


def test_the_open_loop_counts_every_reply(port: int, tmp_path: Path) -> None:
    found = _open_loop(port, "Double", tmp_path)
    assert (found["replies"], found["bytes"]) == (100, 100 * 2 * len(_MESSAGE))
    assert 0 < found["p50_ms"] <= found["p99_ms"]


def test_an_error_has_no_bytes_in_the_open_loop(port: int, tmp_path: Path) -> None:
    assert _open_loop(port, "Absent", tmp_path)["bytes"] < 0
