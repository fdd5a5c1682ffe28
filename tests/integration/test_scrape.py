"""Callers while somebody reads /metrics."""

import statistics
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import pytest

from support.raw_calls import ENCODE, REQUEST
from support.servers import server_process

SCRAPES = 12


@pytest.mark.alone
def test_a_call_does_not_wait_for_a_scrape(own_repository: Path) -> None:
    """It would take up to as long: every time that it needs the interpreter it would wait."""
    with server_process(own_repository) as server:
        ready = server.wait_for("ready")
        scrapes: list[float] = []

        def read_metrics() -> None:
            for _ in range(SCRAPES):
                began = time.monotonic()
                with urllib.request.urlopen(f"http://{ready['metrics_address']}/metrics") as reply:
                    reply.read()
                scrapes.append(time.monotonic() - began)

        reader = threading.Thread(target=read_metrics)
        calls: list[float] = []
        with grpc.insecure_channel(ready["address"]) as channel:
            encode: Any = channel.unary_unary(ENCODE)
            reader.start()
            while reader.is_alive():
                began = time.monotonic()
                encode(REQUEST, timeout=30)
                calls.append(time.monotonic() - began)
        server.terminate()
        code, errors = server.finish()
    assert code == 0, errors
    assert statistics.median(calls) < 0.1 * statistics.median(scrapes)
