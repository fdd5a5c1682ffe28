"""The Node client, by its own tests, against a real server; skipped where Node is not installed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CLIENT = ROOT / "clients" / "node"
CALLING = ROOT / "docs" / "calling.md"


@pytest.fixture(scope="module")
def packages() -> None:
    """The client's packages, as its lock file names them."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("Node 20 and npm are not installed")
    lock, installed = CLIENT / "package-lock.json", CLIENT / "node_modules" / ".package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime:
        return
    command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = run(*command)
    if done.returncode:
        pytest.skip(f"npm cannot fetch the client's packages: {done.stderr.strip()[-300:]}")


@pytest.mark.usefixtures("packages")
def test_client_against_a_server(address: str) -> None:
    done = run("npm", "test", VAESERVE_ADDRESS=address)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fail 0" in done.stdout


@pytest.mark.usefixtures("packages")
def test_the_example_of_the_calling_page_runs(address: str) -> None:
    (block,) = re.findall(r"```ts\n(.*?)```", CALLING.read_text(), re.DOTALL)
    # The address last: its port may hold a 28.
    for shown, ours in {'"mnist"': '"digits"', "28": "8", "localhost:50051": address}.items():
        block = block.replace(shown, ours)
    assert run("npm", "run", "build").returncode == 0
    program = CLIENT / "dist" / "calling.mjs"  # within the package, which may import itself by name
    program.write_text(block)
    done = run("node", str(program))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("mu Float32Array(3) [")
    assert done.stdout.splitlines()[-3:] == [
        "samples [ 16, 1, 8, 8 ]",
        "decoded [ 1, 1, 8, 8 ]",
        "NOT_FOUND MODEL_NOT_FOUND",
    ]


@pytest.mark.usefixtures("packages")
def test_generated_code_is_of_the_proto_files() -> None:
    done = run(sys.executable, "../../proto/generate.py", "node", "--check")
    assert done.returncode == 0, done.stderr


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the client's folder."""
    return subprocess.run(
        command,
        cwd=CLIENT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
