"""`vaeserve serve --workers N` as operators and callers see it: real processes on one port."""

import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest

from bench.processes import free_port
from support.health import health_of
from support.servers import ServerProcess, make_app, scrape, server_process
from vaeserve import Client
from vaeserve.v1 import vae_service_pb2 as pb
from vaeserve.v1.vae_service_pb2_grpc import VaeServiceStub
from vaeserve_export.bundling.of_run import export_run

CONNECTIONS = 16
REQUEST = pb.SampleRequest(model="digits", n=2, seed=7)
GRAPH = '{graph="decoder",model="digits"}'
ROWS = f"vaeserve_rows_total{GRAPH}"
SAMPLE = 'grpc_method="Sample",grpc_service="vaeserve.v1.VaeService",grpc_type="unary"'
ANSWERED = f'grpc_server_handled_total{{grpc_code="OK",{SAMPLE}}}'
RESTARTS = "vaeserve_worker_restarts_total{}"
NUMBERS = itertools.count()  # channels with the same options share a connection
RETRYABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


class Workers:
    """A supervisor with two workers that are ready."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        ready = server.wait_for("ready")
        self.address: str = ready["address"]
        self.metrics_address: str = ready["metrics_address"]
        self.pids = {
            record["pid"] for record in server.records if record["message"] == "worker ready"
        }
        assert len(self.pids) == 2

    def scrape(self) -> dict[str, float]:
        return scrape(self.metrics_address)

    def connections_of(self, pid: int) -> int:
        """Connections that a worker has accepted, as the kernel tells."""
        port = f"{int(self.address.rpartition(':')[2]):04X}"
        established = set()
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[1].endswith(f":{port}") and fields[3] == "01":
                    established.add(f"socket:[{fields[9]}]")
        files = (str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir())
        return sum(file in established for file in files)

    def kill(self, pid: int) -> int:
        """Kill a worker and wait for its successor's process id."""
        os.kill(pid, signal.SIGKILL)
        assert self.server.wait_for("worker ended")["pid"] == pid
        successor: int = self.server.wait_for("worker ready")["pid"]
        self.pids = self.pids - {pid} | {successor}
        return successor


@contextmanager
def two_workers(repository: Path, *options: str) -> Iterator[Workers]:
    arguments = ("--workers", "2", "--threads", "1", "--drain-delay", "0", *options)
    with server_process(repository, *arguments) as server:
        yield Workers(server)


@contextmanager
def stubs(address: str) -> Iterator[list[VaeServiceStub]]:
    """Callers with a connection each, and without retries."""
    with ExitStack() as stack:
        channels = (
            grpc.insecure_channel(address, [("grpc.n", next(NUMBERS)), ("grpc.enable_retries", 0)])
            for _ in range(CONNECTIONS)
        )
        yield [VaeServiceStub(stack.enter_context(channel)) for channel in channels]


def counts(samples: dict[str, float]) -> dict[str, float]:
    """Those that may never fall."""
    endings = ("_total", "_count", "_bucket")
    return {name: value for name, value in samples.items() if name.split("{")[0].endswith(endings)}


def wait_ended(pids: set[int]) -> None:
    """A process that has closed its files may need a moment more."""
    for _ in range(2000):
        if all(ended(pid) for pid in pids):
            return
        time.sleep(0.005)
    raise AssertionError("workers are left")


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_every_worker_answers_and_metrics_add_up(own_repository: Path) -> None:
    calls_each = 10
    with two_workers(own_repository) as workers, stubs(workers.address) as callers:
        before = workers.scrape()
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            answers = pool.map(
                lambda stub: [stub.Sample(REQUEST, timeout=30) for _ in range(calls_each)], callers
            )
            (answer,) = {reply.x_hat.data for replies in answers for reply in replies}
        assert len(answer) == 2 * 64 * 4
        accepted = [workers.connections_of(pid) for pid in workers.pids]
        assert min(accepted) > 0
        assert sum(accepted) == CONNECTIONS
        after = workers.scrape()
    calls = CONNECTIONS * calls_each
    assert before[ANSWERED] == before[ROWS] == 0
    assert after[ANSWERED] == after[f"grpc_server_started_total{{{SAMPLE}}}"] == calls
    assert after[f"grpc_server_handling_seconds_count{{{SAMPLE}}}"] == calls
    assert after[ROWS] == after[f"vaeserve_batch_rows_sum{GRAPH}"] == 2 * calls
    assert after[f"vaeserve_in_flight{GRAPH}"] == after[f"vaeserve_queue_rows{GRAPH}"] == 0
    assert after['vaeserve_provider_info{model="digits",provider="CPUExecutionProvider"}'] == 1
    assert after["vaeserve_workers{}"] == 2
    assert after[RESTARTS] == 0
    assert before.keys() == after.keys()


def test_a_worker_killed_under_load_is_replaced(own_repository: Path) -> None:
    """Callers without retries see errors that may be retried; the SDK's callers see none."""
    done = threading.Event()

    def call(stub: VaeServiceStub) -> set[grpc.StatusCode]:
        codes = set()
        while not done.is_set():
            try:
                stub.Sample(REQUEST, timeout=30)
            except grpc.RpcError as error:
                codes.add(error.code())
        return codes

    def call_by_sdk(client: Client) -> int:
        answers = 0
        while not done.is_set():
            answers += client.model("digits").sample(2, seed=7).shape == (2, 1, 8, 8)
        return answers

    with (
        two_workers(own_repository) as workers,
        Client(workers.address) as client,
        stubs(workers.address) as callers,
        ThreadPoolExecutor(CONNECTIONS + 1) as pool,
    ):
        client.model("digits").sample(1)
        (victim,) = (pid for pid in workers.pids if workers.connections_of(pid))
        jobs = [pool.submit(call, stub) for stub in callers]
        try:
            sdk = pool.submit(call_by_sdk, client)
            before = workers.scrape()
            while workers.connections_of(victim) < 2:
                assert not ended(victim)
            successor = workers.kill(victim)
            after = workers.scrape()
        finally:
            done.set()
        codes = set().union(*(job.result(60) for job in jobs))
        assert sdk.result(60) > 0
        # The port is the successor's again.
        with stubs(workers.address) as newcomers:
            for stub in newcomers:
                stub.Sample(REQUEST, timeout=30)
            assert workers.connections_of(successor) > 0
    assert codes <= set(RETRYABLE)
    assert all(after[name] >= value for name, value in counts(before).items())
    assert (after[RESTARTS], after["vaeserve_workers{}"]) == (1, 2)


def test_counts_of_a_dead_worker_stay_in_the_sums(own_repository: Path) -> None:
    with two_workers(own_repository) as workers, stubs(workers.address) as callers:
        for stub in callers:
            stub.Sample(REQUEST, timeout=30)
        before = workers.scrape()  # every worker is asked for what it has counted
        for pid in list(workers.pids):
            workers.kill(pid)
        after = workers.scrape()
    assert before[ANSWERED] == after[ANSWERED] == CONNECTIONS
    assert {**after, RESTARTS: 0} == before


def test_counts_are_polled_so_that_a_crash_costs_few(own_repository: Path) -> None:
    """Nobody scrapes before the crash; the supervisor asks by itself once a second."""
    with two_workers(own_repository) as workers, Client(workers.address) as client:
        client.model("digits").sample(2)
        (victim,) = (pid for pid in workers.pids if workers.connections_of(pid))
        # The other worker starts anew meanwhile, which takes as long as a poll or more.
        (other,) = workers.pids - {victim}
        for _ in range(3):
            other = workers.kill(other)
        workers.kill(victim)
        assert workers.scrape()[ROWS] == 2


def test_a_hanging_worker_does_not_hang_the_scrape(own_repository: Path) -> None:
    with two_workers(own_repository) as workers, stubs(workers.address) as callers:
        for stub in callers:
            stub.Sample(REQUEST, timeout=30)
        before = workers.scrape()
        hanging = next(iter(workers.pids))
        os.kill(hanging, signal.SIGSTOP)
        try:
            assert workers.scrape() == before  # fails beyond 10 s
        finally:
            os.kill(hanging, signal.SIGCONT)


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


def test_a_successor_serves_what_the_others_serve(own_repository: Path, repository: Path) -> None:
    with two_workers(own_repository) as workers, stubs(workers.address) as callers:
        export_run(repository.parent / "runs" / "digits", own_repository, "digits")
        assert (own_repository / "digits" / "2").is_dir()
        for pid in list(workers.pids):
            workers.kill(pid)
        samples = workers.scrape()
        assert {
            stub.Sample(REQUEST, timeout=30, wait_for_ready=True).version for stub in callers
        } == {1}
    assert sum(name.startswith("vaeserve_model_info{") for name in samples) == 1
