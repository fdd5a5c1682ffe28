"""Several sending processes: how they end before their time."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from unit.client.scripted_server import Script
from vaeserve.v1 import model_service_pb2 as models_pb

# A shell starts what it runs in the background with interrupts ignored.
INTERRUPTIBLE = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
COMMAND = (sys.executable, "-c", f"{INTERRUPTIBLE}; from vaeserve._cli import main; main()")


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_ends_all_quietly_and_keeps_what_was_finished(
    script: Script, tmp_path: Path, workers: int
) -> None:
    second = threading.Event()

    def before(_: object) -> None:
        # Each process asks for the model at the beginning of each run.
        if len(script.sent(models_pb.GetModelRequest)) == 2 * workers:
            second.set()

    script.before = before
    options = ("--model", "digits", "--sweep", "concurrency=2,4,8", "--workers", str(workers))
    timed = ("--duration", "3s", "--warmup", "0", "--out", str(tmp_path / "out.json"))
    with subprocess.Popen(
        [*COMMAND, "loadtest", script.address, *options, *timed],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as process:
        assert second.wait(60)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        printed, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.split("\n") == ["stopped after 1 run", "", "Aborted!", ""]
    assert "2 callers, 3 s after 0 s warm-up" in printed
    (run,) = json.loads((tmp_path / "out.json").read_text())["runs"]
    assert run["load"]["concurrency"] == 2


def test_a_script_without_its_guard_is_told_of_it(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from vaeserve_loadtest import Load, run\n"
        "run(Load(address='127.0.0.1:1', model='digits', rate=1.0, workers=2))\n"
    )
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert "WorkerDied: a sending process ended without a result" in last
    assert "if __name__ == '__main__':" in last
    assert "memory" not in last
