"""Runs each part in a process of its own, for so long and no longer.

A part that crashes, hangs or fails takes neither the rest of the run with it nor what it has found
so far, and its device memory goes with its process.
"""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from gpu_check.findings import Finding, Notes

DEFAULT_TOTAL_S = 535.0
"""Nine minutes, less what starting takes."""

_JOIN_S = 10


@dataclass(frozen=True)
class Setting:
    """What a run was told.

    Attributes:
        device: `cpu`, `cuda` or `cuda:N`, as `vaeserve serve --device` takes it.
        quick: tiny nets, few runs.
        home: folder for logs and requests.
        bundles: folder with a repository for each net and precision.
        seconds: about how long one figure is measured.
    """

    device: str
    quick: bool
    home: Path
    bundles: Path
    seconds: float

    @property
    def on_cuda(self) -> bool:
        """Whether there is a GPU to be checked."""
        return self.device.startswith("cuda")

    @property
    def index(self) -> int:
        """Number of the CUDA device."""
        return int(self.device.partition(":")[2] or 0)


Work = Callable[[Setting, Sequence[Finding], Notes], None]


@dataclass(frozen=True)
class Part:
    """One part of a run.

    Attributes:
        name: of it.
        work: takes the setting, what was found before, and where to note findings.
        limit_s: seconds that it gets.
    """

    name: str
    work: Work
    limit_s: float


def run_parts(
    parts: Sequence[Part],
    setting: Setting,
    *,
    total_s: float,
    progress: Callable[[str], None],
) -> tuple[list[Finding], dict[str, str]]:
    """Run them one after another.

    Args:
        parts: in their order.
        setting: for all of them.
        total_s: seconds for all of them together; if more than usual, each gets more.
        progress: told of every part and finding.

    Returns:
        findings in order, and why parts failed, by name.
    """
    # This process has imported everything, which takes seconds, and started nothing on a device.
    context = multiprocessing.get_context("fork")
    findings, failures = list[Finding](), dict[str, str]()
    began = time.monotonic()
    longer = max(1.0, total_s / DEFAULT_TOTAL_S)
    for part in parts:
        left = total_s - (time.monotonic() - began)
        limit = min(longer * part.limit_s, left)
        if limit <= 0:
            failures[part.name] = f"not begun: the {total_s:.0f} s of the whole run are over"
            continue
        progress(f"[{total_s - left:4.0f} s] {part.name}, at most {limit:.0f} s")
        found, reason = _run(context, part, setting, findings, limit, progress)
        findings += found
        if reason is not None:
            failures[part.name] = reason
            progress(f"         FAILED: {reason}")
    return findings, failures


def _run(
    context: multiprocessing.context.ForkContext,
    part: Part,
    setting: Setting,
    known: Sequence[Finding],
    limit_s: float,
    progress: Callable[[str], None],
) -> tuple[list[Finding], str | None]:
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(part, setting, list(known), theirs))
    process.start()
    theirs.close()
    end = time.monotonic() + limit_s
    found, reason = list[Finding](), f"stopped after {limit_s:.0f} s"
    finished: str | None = reason
    while ours.poll(max(0.0, end - time.monotonic())):
        try:
            message = ours.recv()
        except EOFError:
            finished = "its process died"
            break
        if not isinstance(message, Finding):
            finished = message
            break
        found.append(message)
        progress(f"         {message}")
    # Its group: a server that it started must not outlive it, whatever the reason.
    process.join(_JOIN_S if finished != reason else 0)
    if process.pid is not None:
        _kill_group(process.pid)
    process.kill()
    process.join()
    return found, finished


def _work(part: Part, setting: Setting, known: list[Finding], pipe: Connection) -> None:
    os.setsid()
    notes = Notes(part.name, partial(_send, pipe))
    try:
        part.work(setting, known, notes)
    except Exception as error:  # noqa: BLE001  recorded, and the other parts run
        pipe.send(f"{type(error).__name__}: {error}")
    else:
        pipe.send(None)


def _send(pipe: Connection, finding: Finding) -> None:
    pipe.send(finding)


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return
