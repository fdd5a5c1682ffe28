"""What commands that add a version to a repository say of those that were there."""

from pathlib import Path

import click


def tell_versions(folder: Path) -> None:
    """Say on standard error which version was written, if its model had one already.

    Whoever exports anew has a server running, most likely, and servers look at their repository
    only when they start.

    Args:
        folder: of the version: REPOSITORY/NAME/VERSION.
    """
    version = int(folder.name)
    others = [int(path.name) for path in folder.parent.iterdir() if path.name.isdecimal()]
    others.remove(version)
    if not others:
        return
    wrote = f"wrote version {version} of {folder.parent.name}"
    highest = max(others)
    if highest > version:
        click.echo(f"{wrote}; servers serve the highest, which is {highest}", err=True)
    else:
        click.echo(
            f"{wrote}; a server that is running keeps the version it has until it is restarted",
            err=True,
        )
