"""Signals to a server process, whenever they come and whichever thread takes them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from support.servers import server_process


def test_a_signal_while_loading_ends_at_once(own_repository: Path) -> None:
    """Also as process 1 of a container, where a signal without a handler is ignored."""
    code = (
        "import os, signal, sys\n"
        "from vaeserve_server import app\n"
        "from vaeserve_server.cli import serve\n"
        "def load(*_, **__):\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    raise AssertionError('still here')\n"
        "app.load_catalogue = load\n"
        "serve()\n"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-c", code, str(own_repository)),
            *("--address", "127.0.0.1:0", "--metrics-address", "127.0.0.1:0"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_signal_that_comes_while_the_main_thread_begins_to_wait_is_heard(
    own_repository: Path,
) -> None:
    before = (
        "import signal, sys\n"
        "from vaeserve_server import process\n"
        "def begins_to_wait(frame, event, called):\n"
        "    within = frame.f_code is process.serve_until_signal.__code__\n"
        "    if within and event == 'c_call' and called.__name__ == 'recv':\n"
        "        sys.setprofile(None)\n"
        "        signal.raise_signal(signal.SIGTERM)\n"
        "sys.setprofile(begins_to_wait)\n"
    )
    with server_process(own_repository, "--drain-delay", "0", before=before) as server:
        server.wait_for("draining")
        code, _ = server.finish()
    assert code == 0


def test_a_signal_that_another_thread_takes_is_heard(own_repository: Path, tmp_path: Path) -> None:
    """The kernel may give it to any, and does so on a busy machine."""
    go = tmp_path / "go"
    os.mkfifo(go)
    before = (
        "import signal, threading\n"
        "def take():\n"
        f"    open({str(go)!r}).read()\n"
        "    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)\n"
        "threading.Thread(target=take, daemon=True).start()\n"
    )
    with server_process(own_repository, "--drain-delay", "0", before=before) as server:
        server.wait_for("ready")
        go.write_bytes(b"")
        server.wait_for("draining")
        code, _ = server.finish()
    assert code == 0


def test_a_second_signal_ends_at_once(own_repository: Path) -> None:
    with server_process(own_repository, "--drain-delay", "60") as server:
        server.wait_for("ready")
        server.terminate()
        server.wait_for("draining")
        server.process.send_signal(signal.SIGTERM)
        code, _ = server.finish()
    assert code == 1
