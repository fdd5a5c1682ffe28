"""`vaeserve completion`: each shell loads its script and completes a line; skipped without it."""

import os
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from unit.client.scripted_server import Script
from vaeserve._cli import main

Complete = Callable[[str], str]

ROOT = Path(__file__).resolve().parents[3]
WITHIN_S = 60.0

# Rows of a startup file: the script as the help says, then Ctrl-T shows the line as it stands.
STARTUP = {
    "bash": r"""
eval "$(vaeserve completion bash)" 2> errors
bind -x '"\C-t": printf "line=<%s>\n" "$READLINE_LINE"'
PS1='ready> '
""",
    "zsh": r"""
autoload -Uz compinit && compinit -u -D
eval "$(vaeserve completion zsh)" 2> errors
show() { zle -I; print -r -- "line=<$BUFFER>" }
zle -N show
bindkey '^T' show
PS1='ready> '
""",
}
START = {"bash": ["bash", "--rcfile", ".bashrc", "-i"], "zsh": ["zsh", "-i"]}
FISH = "vaeserve completion fish 2> errors | source 2>> errors; complete -C $argv[1] 2>> errors"

TYPED = {
    "vaeserve lo": "vaeserve loadtest ",
    "vaeserve sample ADDRESS --temp": "vaeserve sample ADDRESS --temperature ",
    "vaeserve sample --timeout=9 ADDRESS --model di": (
        "vaeserve sample --timeout=9 ADDRESS --model digits "
    ),
    "vaeserve sample ADDRESS --model=di": "vaeserve sample ADDRESS --model=digits ",
    "vaeserve loadtest ADDRESS --model di": "vaeserve loadtest ADDRESS --model digits ",
    "vaeserve sample --model di": "vaeserve sample --model di",  # of which server?
    "vaeserve sample ADDRESS -o pic": "vaeserve sample ADDRESS -o pictures.png ",
    "vaeserve sample ADDRESS --out=pic": "vaeserve sample ADDRESS --out=pictures.png ",
}


@pytest.fixture(params=["bash", "zsh", "fish"])
def complete(request: pytest.FixtureRequest, tmp_path: Path) -> Complete:
    """What one of the shells, new and with a home of its own, makes of a line and a Tab."""
    shell = str(request.param)
    if not shutil.which(shell):
        pytest.skip(f"there is no {shell}; on Debian: apt-get install {shell}")
    program = tmp_path / "bin" / "vaeserve"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom vaeserve._cli import main\nmain()\n")
    program.chmod(0o755)
    (tmp_path / "pictures.png").touch()
    home = {name: str(tmp_path) for name in ("HOME", "ZDOTDIR", "XDG_CONFIG_HOME")}
    environment = (
        os.environ
        | home
        | {
            "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT / "clients" / "python"),
            "TERM": "dumb",
        }
    )
    if shell == "fish":
        return lambda line: by_fish(line, tmp_path, environment)
    (tmp_path / f".{shell}rc").write_text(STARTUP[shell])
    return lambda line: by_typing(shell, line, tmp_path, environment)


def by_fish(line: str, folder: Path, environment: dict[str, str]) -> str:
    """The line with the one completion that fish offers, if there is one."""
    command = ["fish", "--no-config", "-c", FISH, line]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    offered = [told.split("\t")[0] for told in done.stdout.splitlines()]
    assert len(offered) <= 1
    return f"{line.rpartition(' ')[0]} {offered[0]} " if offered else line


def by_typing(shell: str, line: str, folder: Path, environment: dict[str, str]) -> str:
    """The line after a Tab, typed into a terminal that the shell believes in."""
    ours, its = os.openpty()
    try:
        process = subprocess.Popen(
            START[shell],
            stdin=its,
            stdout=its,
            stderr=its,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
        try:
            read_to(ours, r"ready> ")
            os.write(ours, f"{line}\t\x14".encode())
            return read_to(ours, r"line=<(.*)>\r\n")[1]
        finally:
            process.kill()
            process.wait()
    finally:
        os.close(its)
        os.close(ours)


def read_to(terminal: int, pattern: str) -> re.Match[str]:
    """Read a terminal until the pattern is there."""
    shown, end = "", time.monotonic() + WITHIN_S
    while not (found := re.search(pattern, shown)):
        if not select.select([terminal], [], [], max(0, end - time.monotonic()))[0]:
            raise AssertionError(f"no {pattern!r} within {WITHIN_S:g} s: {shown!r}")
        shown += os.read(terminal, 4096).decode()
    return found


@pytest.mark.parametrize("typed", TYPED)
def test_a_shell_completes(complete: Complete, script: Script, typed: str, tmp_path: Path) -> None:
    line, expected = (text.replace("ADDRESS", script.address) for text in (typed, TYPED[typed]))
    assert complete(line) == expected
    assert (tmp_path / "errors").read_text() == ""


def test_the_help_keeps_a_line_for_each_shell() -> None:
    shown = CliRunner().invoke(main, ["completion", "--help"]).output
    assert re.findall(r"^  (\w+): +\S", shown, re.MULTILINE) == ["bash", "zsh", "fish"]
