"""Docker or buildah: which one is here, and how each runs the image.

buildah needs neither an engine in the background nor, beside debootstrap, a registry of images.
"""

import json
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import click

ROOT = Path(__file__).resolve().parent.parent
# What buildah can do where it may make neither namespaces nor bridges.
CHROOT = ("--isolation", "chroot", "--network", "host")
# Environment variable and port of the image for each of the two ports.
ADDRESSES = (("VAESERVE_ADDRESS", 50051), ("VAESERVE_METRICS_ADDRESS", 9464))


class Running(NamedTuple):
    """The image while it runs.

    Attributes:
        command: the engine's command, which ends as the server ends.
        proc: gives the text of a file in the server's /proc.
        terminate: sends the server SIGTERM.
    """

    command: subprocess.Popen[bytes]
    proc: Callable[[str], str]
    terminate: Callable[[], None]


def say(text: str) -> None:
    """Print a line of progress."""
    click.echo(f"image: {text}")


def sh(*command: str | Path, show: bool = False) -> str:
    """Run a command to its end; returns what it printed, unless that is shown."""
    stdout = None if show else subprocess.PIPE
    done = subprocess.run(command, check=False, text=True, cwd=ROOT, stdout=stdout)  # noqa: S603
    if done.returncode:
        line = " ".join(map(str, command[:4]))
        raise click.ClickException(f"{line} ... ended with {done.returncode}\n{done.stdout or ''}")
    return (done.stdout or "").strip()


def find_engine() -> str:
    """Docker if its engine answers, else buildah."""
    docker = shutil.which("docker")
    if docker:
        info = subprocess.run([docker, "info"], check=False, capture_output=True)  # noqa: S603
        if info.returncode == 0:
            return "docker"
    if shutil.which("buildah"):
        return "buildah"
    raise click.ClickException(
        "neither a Docker engine nor buildah here: apt-get install buildah debootstrap"
    )


@contextmanager
def run_by_docker(image: str, mount: str, ports: tuple[int, int], log: Path) -> Iterator[Running]:
    """Run the image as in production, its own ports mapped to `ports`."""
    name = f"vaeserve-check-{uuid.uuid4().hex[:8]}"
    flags = ["--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
    for port, (_, inner) in zip(ports, ADDRESSES, strict=True):
        flags.append(f"--publish=127.0.0.1:{port}:{inner}")
    command = _start(log, "docker", "run", "--rm", "--name", name, *flags, "--volume", mount, image)
    try:
        yield Running(
            command,
            lambda file: sh("docker", "exec", name, "cat", f"/proc/1/{file}"),
            lambda: command.send_signal(signal.SIGTERM),  # docker passes it on
        )
    finally:
        if command.poll() is None:
            sh("docker", "rm", "--force", name)
            command.wait()


@contextmanager
def run_by_buildah(image: str, mount: str, ports: tuple[int, int], log: Path) -> Iterator[Running]:
    """Run the image in a chroot with the machine's network, told by environment to use `ports`."""
    config = json.loads(sh("buildah", "inspect", "--type", "image", image))["OCIv1"]["config"]
    flags = ["--volume", mount]
    for port, (name, inner) in zip(ports, ADDRESSES, strict=True):
        if f"{name}=0.0.0.0:{inner}" not in config["Env"]:
            raise click.ClickException(f"the image does not set {name} to 0.0.0.0:{inner}")
        flags += ["--env", f"{name}=0.0.0.0:{port}"]
    container = sh("buildah", "from", "--pull-never", image)
    # `buildah run` heeds the image's user and environment, but not its entrypoint.
    entrypoint = config["Entrypoint"]
    command = _start(log, "buildah", "run", *CHROOT, *flags, container, "--", *entrypoint)
    try:
        yield Running(
            command,
            lambda file: Path(f"/proc/{_innermost(command.pid)}/{file}").read_text(),
            lambda: os.kill(_innermost(command.pid), signal.SIGTERM),  # buildah does not pass it on
        )
    finally:
        if command.poll() is None:
            os.kill(_innermost(command.pid), signal.SIGKILL)
            command.wait()
        sh("buildah", "rm", container)


def _start(log: Path, *command: str) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        return subprocess.Popen(command, stdout=file, stderr=file)  # noqa: S603


def _innermost(pid: int) -> int:
    """Last of a chain of processes, each of which started the next: here, the server."""
    while True:
        files = Path(f"/proc/{pid}/task").glob("*/children")
        children = [int(child) for file in files for child in file.read_text().split()]
        if not children:
            return pid
        pid = children[0]
