"""What a run found: measurements by case, streams and server, and single figures by name."""

import json
import os
import platform
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.cases import Case
from bench.measuring import Measurement

_PACKAGES = ("vaeserve", "grpcio", "onnxruntime", "numpy", "protobuf")


@dataclass(frozen=True)
class Key:
    """What was measured.

    Attributes:
        model: name.
        rpc: `encode`, `decode` or `sample`.
        rows: in a request.
        streams: requests at a time.
    """

    model: str
    rpc: str
    rows: int
    streams: int


@dataclass
class Results:
    """Everything a run found.

    Attributes:
        runs: every measurement of a key by server, in the order they were taken.
        figures: single values by name, with the unit at the end of the name.
        problems: what could not be measured, and why.
    """

    runs: dict[Key, dict[str, list[Measurement]]] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add(self, case: Case, streams: int, server: str, found: Measurement) -> None:
        """Note one measurement."""
        key = Key(case.model.name, case.rpc, case.rows, streams)
        self.runs.setdefault(key, {}).setdefault(server, []).append(found)

    def median(self, key: Key, server: str) -> Measurement | None:
        """Median of each column over the repetitions; None if it was not measured."""
        runs = self.runs.get(key, {}).get(server)
        if not runs:
            return None
        columns = (column.name for column in fields(Measurement))
        return Measurement(
            **{name: statistics.median(getattr(run, name) for run in runs) for name in columns}
        )

    def medians(self) -> Iterator[tuple[Key, str, Measurement]]:
        """Key, server, medians of all that was measured."""
        for key, servers in self.runs.items():
            for server in servers:
                found = self.median(key, server)
                assert found is not None
                yield key, server, found

    def to_json(self, command: str) -> str:
        """One JSON object: command, machine, medians with the runs behind them, figures."""
        medians = [
            {
                **asdict(key),
                "server": server,
                "median": asdict(found),
                "runs": [asdict(run) for run in self.runs[key][server]],
            }
            for key, server, found in self.medians()
        ]
        content = {"command": command, "machine": machine(), "figures": self.figures}
        return json.dumps({**content, "measurements": medians}, indent=1) + "\n"


def machine() -> dict[str, Any]:
    """Where it was measured, and with which versions."""
    cpu = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": cpu[0] if cpu else platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in _PACKAGES},
    }
