"""The server's own view of a run, and what is said where its /metrics cannot be read."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from unit.client.command_line import vaeserve
from unit.client.scripted_server import Script
from unit.loadtest.loads import load
from vaeserve_loadtest import Report, report_table, runner

RUNS = """# TYPE process_cpu_seconds counter
process_cpu_seconds_total {cpu}
# TYPE vaeserve_run_seconds histogram
vaeserve_run_seconds_bucket{{model="digits",graph="encoder",le="+Inf"}} {runs}
vaeserve_run_seconds_count{{model="digits",graph="encoder"}} {runs}
vaeserve_run_seconds_sum{{model="digits",graph="encoder"}} {runs}
# TYPE vaeserve_rows counter
vaeserve_rows_total{{model="digits",graph="encoder"}} {runs}
"""


@contextmanager
def metrics(answer: Callable[[int], str | None]) -> Iterator[str]:
    """An endpoint that answers each reading, from 1 on, or fails it where there is no text."""
    reading = 0

    class Endpoint(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            nonlocal reading
            reading += 1
            text = answer(reading)
            if text is None:
                self.send_error(503)
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Endpoint) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def measured(script: Script, answer: Callable[[int], str | None]) -> Report:
    chosen = load(script, concurrency=1, duration_s=0.2, warmup_s=0.1)
    with metrics(answer) as address:
        return runner.run(chosen, metrics_address=address)


def test_the_view_is_of_the_measured_time(script: Script) -> None:
    # The first reading only proves that there are metrics.
    report = measured(script, lambda reading: RUNS.format(cpu=reading, runs=reading**2))
    assert report.server is not None
    assert [graph.batches for graph in report.server.graphs] == [9 - 4]
    assert report.server.cpu_s == 1
    assert not any("view" in warning for warning in report.warnings)


@pytest.mark.parametrize("read", [1, 2])
def test_a_reading_that_fails_during_the_run_leaves_the_rest(
    script: Script, capfd: pytest.CaptureFixture[str], read: int
) -> None:
    report = measured(
        script, lambda reading: RUNS.format(cpu=5, runs=100) if reading <= read else None
    )
    assert report.succeeded > 0
    assert report.server is None
    assert report.to_json()["server"] is None
    lines = report_table(report).splitlines()
    (told,) = [line for line in lines if "server's own view" in line]
    assert told.startswith("warning     the server's own view is missing: 127.0.0.1:")
    assert told.endswith(": no metrics there: 503 Service Unavailable")
    assert not any(line.startswith("server ") for line in lines)
    assert "Traceback" not in capfd.readouterr().err


def test_a_server_that_was_restarted_has_no_view(script: Script) -> None:
    report = measured(script, lambda reading: RUNS.format(cpu=10 / reading, runs=1000 / reading))
    assert report.server is None
    assert any("began to count anew" in warning for warning in report.warnings)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("127.0.0.1:1", "127.0.0.1:1: no metrics there: Connection refused"),
        ("localhost:abc", "'localhost:abc' is no HOST:PORT of metrics"),
        ("localhost:99999", "'localhost:99999' is no HOST:PORT of metrics"),
        ("http://localhost:1", "'http://localhost:1' is no HOST:PORT of metrics"),
        ("localhost", "'localhost' is no HOST:PORT of metrics"),
    ],
)
def test_an_address_without_metrics_is_told_in_a_line(
    script: Script, address: str, told: str
) -> None:
    result = vaeserve("loadtest", script.address, "--rate", 1, "--metrics", address)
    assert result.exit_code == 1
    assert result.output == f"Error: {told}\n"


def test_what_answers_without_metrics_is_told_in_a_line(script: Script) -> None:
    common = ("loadtest", script.address, "--rate", 1, "--metrics")
    advice = "what answers there has no metrics; is it the port of --metrics-address, not of gRPC?"
    result = vaeserve(*common, script.address)
    assert (result.exit_code, result.output) == (1, f"Error: {script.address}: {advice}\n")
    with metrics(lambda _: "<!doctype html>\n<p>not here</p>\n") as page:
        result = vaeserve(*common, page)
    assert (result.exit_code, result.output) == (1, f"Error: {page}: {advice}\n")
