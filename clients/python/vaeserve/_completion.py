"""`vaeserve completion`: the script that makes a shell complete this command line."""

import click
from click.shell_completion import get_completion_class

_SHELLS = ("bash", "zsh", "fish")
_VARIABLE = "_VAESERVE_COMPLETE"  # click's name for it


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, *, shell: str) -> None:
    r"""Print the completion script for SHELL.

    \b
    bash:  eval "$(vaeserve completion bash)"      in ~/.bashrc
    zsh:   eval "$(vaeserve completion zsh)"       in ~/.zshrc
    fish:  vaeserve completion fish | source       in ~/.config/fish/config.fish
    """
    kind = get_completion_class(shell)
    if kind is None:  # click without it is newer than this
        raise click.ClickException(f"this version of click completes nothing in {shell}")
    script = kind(ctx.find_root().command, {}, "vaeserve", _VARIABLE)
    click.echo(script.source())
