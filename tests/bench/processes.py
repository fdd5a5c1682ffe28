"""Server processes: started, weighed by /proc, stopped. Linux only."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_STOP_S = 20


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """A server with all its children."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        """Start it.

        Args:
            command: program and arguments.
            log: gets what it prints.
            environment: set on top of this process's.
            folder: to run in; by default this process's.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        self.began = time.perf_counter()
        with log.open("wb") as sink:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                cwd=folder,
            )

    def wait_for_port(self, port: int, timeout_s: float = 60) -> None:
        """Wait until somebody listens on a loopback port.

        Raises:
            RuntimeError: the process ended, or nobody listened in time.
        """
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if self._process.poll() is not None:
                break
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.002)
        tail = self.log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"the server does not listen; the end of {self.log}:\n{tail}")

    def cpu_seconds(self) -> float:
        """User and system time of the process and its living children, seconds."""
        return sum(_cpu_ticks(pid) for pid in self._tree()) / _TICKS

    def resident_bytes(self) -> int:
        """VmRSS of the process and its living children."""
        return sum(_resident_bytes(pid) for pid in self._tree())

    def stop(self) -> None:
        """End it and its children; at once when it does not listen."""
        tree = self._tree()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pid in tree[1:]:
            if _parent(pid) is not None:
                os.kill(pid, signal.SIGKILL)

    def _tree(self) -> list[int]:
        parents = {
            int(entry.name): _parent(int(entry.name))
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit()
        }
        tree = [self._process.pid]
        for pid in tree:  # grows while it is walked
            tree += [child for child, parent in parents.items() if parent == pid]
        return tree


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the state on; None when the process has gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def _parent(pid: int) -> int | None:
    fields = _stat(pid)
    return int(fields[1]) if fields else None


def _cpu_ticks(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[11]) + int(fields[12]) if fields else 0


def _resident_bytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    sizes = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(sizes[0]) * 1024 if sizes else 0
