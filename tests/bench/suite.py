"""The whole comparison of one model: servers side by side, measured in turn."""

import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from bench import own, servers, triton
from bench.cases import Case, RawGraphs
from bench.h2load import LoadError
from bench.measuring import Target, raw_runs
from bench.results import Key, Results
from bench.servers import Server, Settings

SERVERS: dict[str, Callable[[Settings], Server]] = {
    "aio": servers.aio,
    "pool": servers.pool,
    "bare": servers.bare,
    "triton": triton.start,
    "vaeserve": servers.Vaeserve,
}
RAW = "raw"


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        servers: names, RAW among them or not.
        rpcs: of bench.cases.RPCS.
        rows: rows of a request.
        streams: of bench.cases.STREAMS.
        repeat: repetitions of each measurement.
        seconds: about how long each takes.
        figures: whether the service's own figures are wanted too.
    """

    servers: tuple[str, ...]
    rpcs: tuple[str, ...]
    rows: tuple[int, ...]
    streams: tuple[int, ...]
    repeat: int
    seconds: float
    figures: bool


class Suite:
    """Measures one model.

    Args:
        settings: of the servers.
        plan: what to measure.
        results: gets what is found.
        progress: is told what is being done.
    """

    def __init__(
        self, settings: Settings, plan: Plan, results: Results, progress: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._plan = plan
        self._results = results
        self._progress = progress
        self._raw = RawGraphs(settings.repository, settings.model, settings.threads)

    def run(self) -> Iterator[Key]:
        """Measure; yields each key of the comparison once its results are there."""
        with ExitStack() as stack:
            running: dict[str, Server] = {}
            for name in self._plan.servers:
                if name != RAW:
                    self._progress(f"starting {name}")
                    server = SERVERS[name](self._settings)
                    running[name] = stack.enter_context(own.stopping(server))
            for server in running.values():
                server.wait_until_ready()
            for rpc in self._plan.rpcs:
                for rows in self._plan.rows:
                    yield from self._compare(running, Case(self._settings.model, rpc, rows))
            if self._plan.figures and "vaeserve" in running:
                self._measure_running(running["vaeserve"])
                if "bare" in running and self._settings.model.name == "mlp":
                    self._measure_floor(running["bare"])
        if self._plan.figures and "vaeserve" in self._plan.servers:
            self._measure_fresh()

    def _compare(self, running: dict[str, Server], case: Case) -> Iterator[Key]:
        plan, name = self._plan, self._settings.model.name
        targets = {}
        for server_name, server in running.items():
            self._progress(f"{case}: checking {server_name}'s answers")
            target = self._target(server, case)
            if target is not None:
                targets[server_name] = target
        for streams in plan.streams:
            for turn in range(plan.repeat):
                for server_name in plan.servers:
                    at = f"{case}, {streams} streams, {server_name}, {turn + 1}/{plan.repeat}"
                    self._progress(at)
                    if server_name == RAW:
                        found = raw_runs(self._raw, case, streams, plan.seconds / 2)
                    elif server_name in targets:
                        found = targets[server_name].closed_loop(streams, plan.seconds)
                    else:
                        continue
                    self._results.add(case, streams, server_name, found)
            yield Key(name, case.rpc, case.rows, streams)

    def _target(self, server: Server, case: Case) -> Target | None:
        checked = server.check(case, self._raw)
        if checked is None:
            return None
        return Target(server, case, *checked, self._settings.home / "load" / server.name)

    def _measure_running(self, server: Server) -> None:
        """What is asked of a server that has been under load."""
        plan, model = self._plan, self._settings.model
        case = Case(model, "encode", 1)
        target = self._target(server, case)
        assert target is not None
        capacity = self._results.median(Key(model.name, "encode", 1, 64), server.name)
        if capacity is not None:
            self._progress(f"{case}: open loop at 80 % of capacity")
            try:
                self._add(own.open_loop(target, capacity.requests_s, plan.repeat, plan.seconds))
            except LoadError as error:  # the client needs a core as well
                self._results.problems.append(f"{case}: {error}")
        if model.name != "mlp":
            return
        self._progress(f"{case}: beside the bare echo")
        self._add(
            own.beside_echo(target, self._raw, self._settings.home, plan.repeat, plan.seconds)
        )
        self._progress(f"{case}: bidirectional streams")
        self._add(own.streams(target, self._raw, plan.repeat, plan.seconds))
        self._progress("the idle server")
        self._add(own.idle(server))

    def _measure_floor(self, server: Server) -> None:
        """Those of the figures that a server without any feature has, too."""
        plan, case = self._plan, Case(self._settings.model, "encode", 1)
        target = self._target(server, case)
        assert target is not None
        self._progress(f"{case}: the floor's streams and one caller")
        found = own.streams(target, self._raw, plan.repeat, plan.seconds)
        known = self._results.figures
        alone = statistics.median(
            target.closed_loop(1, plan.seconds).p50_ms for _ in range(plan.repeat)
        )
        found["alone_ratio"] = alone / (known["echo_p50_ms"] + known["run_p50_ms"])
        self._add({f"bare_{name}": value for name, value in found.items()})

    def _measure_fresh(self) -> None:
        """What takes servers of its own."""

        def start(*options: str) -> servers.Vaeserve:
            return servers.Vaeserve(self._settings, *options)

        if self._settings.model.name == "mlp":
            self._progress("start to ready")
            self._add(own.footprint(start, self._plan.repeat))
        else:  # an MLP's longest batch is over before anybody can be refused
            self._progress("refusals when full")
            self._add(own.refusal(start, Case(self._settings.model, "encode", 1)))

    def _add(self, found: own.Figures) -> None:
        self._results.figures.update(found)
