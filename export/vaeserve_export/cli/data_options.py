"""The options of every command that reads data: they mean the same everywhere."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from vaeserve_export.cli.command import FOLDER
from vaeserve_export.data.spec import SOURCES

_Function = TypeVar("_Function", bound=Callable[..., Any])


def data_options(*, required: bool = True) -> Callable[[_Function], _Function]:
    """Give a command `--data` (parameter `spec`) and `--data-dir` (parameter `data_dir`).

    Args:
        required: whether the command needs `--data`; else `spec` is None without it.
    """

    def add(function: _Function) -> _Function:
        function = click.option(
            "--data-dir",
            type=FOLDER,
            envvar="VAESERVE_DATA_DIR",
            show_envvar=True,
            help="Where mnist and fashion-mnist are looked for: DIR/NAME holds the set's files.",
        )(function)
        return click.option(
            "--data", "spec", required=required, metavar="SOURCE", help=f"{SOURCES}."
        )(function)

    return add
