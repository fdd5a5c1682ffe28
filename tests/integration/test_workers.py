"""`vaeserve serve --workers N` as operators and callers see it: real processes on one port."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from support.workers import CONNECTIONS, GRAPH, REQUEST, RETRYABLE, ROWS, ended, stubs, two_workers
from vaeserve import Client
from vaeserve.v1.vae_service_pb2_grpc import VaeServiceStub
from vaeserve_export.bundling.of_run import export_run

SAMPLE = 'grpc_method="Sample",grpc_service="vaeserve.v1.VaeService",grpc_type="unary"'
ANSWERED = f'grpc_server_handled_total{{grpc_code="OK",{SAMPLE}}}'
RESTARTS = "vaeserve_worker_restarts_total{}"


def counts(samples: dict[str, float]) -> dict[str, float]:
    """Those that may never fall."""
    endings = ("_total", "_count", "_bucket")
    return {name: value for name, value in samples.items() if name.split("{")[0].endswith(endings)}


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
