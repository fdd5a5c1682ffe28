"""perf_analyzer, unmodified, against the running server. `make perf-analyzer` fetches it."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.servers import running_app

FETCHED = Path(sys.prefix) / "perf_analyzer"


@pytest.fixture(scope="module")
def perf_analyzer() -> list[str]:
    """The command, or a skip that says what is missing."""
    found = shutil.which("perf_analyzer", path=f"{FETCHED}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip("perf_analyzer is not here; `make perf-analyzer` fetches it")
    version = subprocess.run(
        [found, "--version"], capture_output=True, text=True, env=environment(), check=False
    )
    if version.returncode:
        pytest.skip(f"perf_analyzer does not run here: {version.stderr.strip()[:200]}")
    return [found, "-i", "grpc", "--measurement-mode", "count_windows"]


@pytest.fixture(scope="module")
def address(repository: Path) -> Iterator[str]:
    """A server of its own: statistics are compared, and shared memory is on."""
    with running_app(repository, system_shared_memory=True) as app:
        yield f"127.0.0.1:{app.port}"


def environment() -> dict[str, str]:
    """Fetched, its libraries lie beside it."""
    paths = [str(FETCHED), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(paths)}


@pytest.mark.parametrize(
    "options",
    [
        ["-m", "digits_encoder", "--input-data", "zero"],
        ["-m", "digits_encoder", "--input-data", "zero", "-b", "4", "--async"],
        ["-m", "digits_decoder", "--input-data", "zero", "--shared-memory", "system"],
        ["-m", "digits_encoder", "--input-data", "zero", "--streaming"],
        ["-m", "digits", "--input-data", "zero"],
    ],
    ids=["encoder", "batch of 4, async", "decoder, shared memory", "stream", "whole"],
)
def test_it_measures(perf_analyzer: list[str], address: str, options: list[str]) -> None:
    command = [*perf_analyzer, "-u", address, "--measurement-request-count", "100", "-s", "999"]
    done = subprocess.run(
        [*command, "--concurrency-range", "2", *options],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    client, _, server = done.stdout.partition("Server:")
    rows = 4 if "-b" in options else 1
    requests = count(client, "Request count")
    # The server's count is read beside the measured window: two callers may be on their way.
    assert count(server, "Successful request count") + 2 >= requests >= 100
    assert count(server, "Inference count") == rows * count(server, "Successful request count")
    assert 1 <= count(server, "Execution count") <= count(server, "Successful request count")
    if options[1] == "digits":
        assert "digits_decoder, version: 1" in server
        assert "digits_encoder, version: 1" in server


def count(text: str, name: str) -> int:
    found = re.search(rf"{name}: (\d+)", text)
    assert found is not None, text
    return int(found[1])
