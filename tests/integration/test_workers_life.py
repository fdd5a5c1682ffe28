"""How `vaeserve serve --workers N` starts and ends."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from bench.processes import free_port
from support.health import health_of
from support.servers import make_app, server_process
from support.workers import (
    CONNECTIONS,
    REQUEST,
    RETRYABLE,
    ROWS,
    stubs,
    two_workers,
    wait_ended,
)
from vaeserve.v1.vae_service_pb2_grpc import VaeServiceStub


def test_a_drain_under_load_fails_nobody(own_repository: Path) -> None:
    """Every call that was begun before the listening ended gets its answer."""

    def call(stub: VaeServiceStub) -> int:
        calls = 0
        while True:
            try:
                stub.Sample(REQUEST, timeout=30)
                calls += 1
            except grpc.RpcError as error:
                # gRPC cancels calls that reach a server while it stops.
                if error.code() in RETRYABLE:
                    return calls
                raise

    with (
        two_workers(own_repository, "--drain-delay", "1") as workers,
        stubs(workers.address) as callers,
        ThreadPoolExecutor(CONNECTIONS) as pool,
    ):
        jobs = [pool.submit(call, stub) for stub in callers]
        while workers.scrape()[ROWS] < 200:
            assert workers.server.process.poll() is None
        workers.server.terminate()
        calls = [job.result(60) for job in jobs]
        code, err = workers.server.finish()
    assert all(calls)
    assert (code, err) == (0, "")
    assert workers.server.records[-1]["message"] == "stopped"
    wait_ended(workers.pids)


def test_a_second_signal_ends_all_at_once(own_repository: Path) -> None:
    with two_workers(own_repository, "--drain-delay", "60") as workers:
        # Ctrl-C goes to a terminal's whole group: to the supervisor, which tells the workers once.
        assert all(os.getpgid(pid) == pid for pid in workers.pids)
        workers.server.terminate()
        workers.server.wait_for("draining")
        workers.server.terminate()
        code, _ = workers.server.finish()
        assert code == 1
        wait_ended(workers.pids)


def test_nobody_is_connected_to_a_worker_that_loads(own_repository: Path) -> None:
    golden = own_repository / "digits" / "1" / "golden.npz"
    golden.unlink()
    os.mkfifo(golden)  # whoever reads it waits until it is written
    address = f"127.0.0.1:{free_port()}"
    with (
        server_process(own_repository, "--workers", "2", "--address", address),
        golden.open("wb"),  # once a worker is there to read
        pytest.raises(grpc.RpcError, match="refused"),
    ):
        health_of(address, "")


def test_a_signal_while_loading_ends_at_once(own_repository: Path) -> None:
    with server_process(own_repository, "--workers", "2", "--drain-delay", "60") as server:
        server.wait_for("starting")
        server.terminate()
        code, err = server.finish()
    assert (code, err) == (0, "")
    assert all(record["message"] != "worker ready" for record in server.records)


def test_workers_do_not_outlive_a_killed_supervisor(own_repository: Path) -> None:
    with two_workers(own_repository, "--drain-delay", "60") as workers:
        workers.server.process.kill()
        # The log's pipe ends when the last process that holds it does.
        workers.server.finish()
    wait_ended(workers.pids)


def test_a_port_with_workers_is_refused_to_others(own_repository: Path) -> None:
    with two_workers(own_repository) as workers:
        for options in ([], ["--workers", "2"]):
            with server_process(own_repository, "--address", workers.address, *options) as second:
                code, err = second.finish()
            assert code == 3
            assert f"cannot listen on {workers.address}" in err
    app = make_app(own_repository)
    app.start()
    try:
        address = f"127.0.0.1:{app.port}"
        with server_process(own_repository, "--address", address, "--workers", "2") as second:
            assert second.finish()[0] == 3
    finally:
        app.stop(grace_s=5)


def test_what_cannot_be_served_ends_the_start(tmp_path: Path) -> None:
    with server_process(tmp_path, "--workers", "3") as server:
        code, err = server.finish()
    assert code == 3
    assert err.count("nothing can be served") == 1


def test_workers_that_die_before_they_are_ready_end_the_start(
    own_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "if 'vaeserve_server.worker' in sys.orig_argv:\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    with server_process(own_repository, "--workers", "2") as server:
        code, err = server.finish()
    assert code == 3
    assert "a worker ended with -9 before it was ready" in err
    assert 4 <= sum(record["message"] == "worker ended" for record in server.records) <= 6
