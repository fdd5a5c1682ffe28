"""The command line, called in this process and in a shell."""

import os
import subprocess
import sys

from click.testing import CliRunner, Result

from vaeserve import _cli


def vaeserve(*arguments: object, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(_cli.main, [str(argument) for argument in arguments], input=stdin)


def ran(*arguments: object) -> str:
    result = vaeserve(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def in_shell(line: str, **values: object) -> subprocess.CompletedProcess[str]:
    """Run a line in a shell, where `vaeserve` is this one."""
    command = f'vaeserve() {{ "{sys.executable}" -m vaeserve "$@"; }}; {line}'
    # gRPC itself would tell of the scripted server, which has no health service.
    environment = {"GRPC_VERBOSITY": "NONE"} | {name: str(value) for name, value in values.items()}
    return subprocess.run(
        ["bash", "-c", command],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
