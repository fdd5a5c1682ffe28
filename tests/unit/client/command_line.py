"""The command line, called in this process."""

from click.testing import CliRunner, Result

from vaeserve import _cli


def vaeserve(*arguments: object, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(_cli.main, [str(argument) for argument in arguments], input=stdin)


def ran(*arguments: object) -> str:
    result = vaeserve(*arguments)
    assert result.exit_code == 0, result.output
    return result.output
