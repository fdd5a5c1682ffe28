"""What every command of this package shares: errors the user can mend are one line."""

from pathlib import Path
from typing import Any

import click

from vaeserve_export.errors import VaeError

FOLDER = click.Path(file_okay=False, path_type=Path)
SEED = click.IntRange(0, 2**64 - 1)


class Command(click.Command):
    """A command that shows errors the user can mend as one line, with exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except VaeError as error:
            raise click.ClickException(str(error)) from error
