"""`vaeserve completion`: the script that makes a shell complete this command line."""

import click
from click.shell_completion import BashComplete, get_completion_class

_SHELLS = ("bash", "zsh", "fish")
_VARIABLE = "_VAESERVE_COMPLETE"  # click's name for it
_HELP = """Print the completion script for SHELL.

\b
bash:  eval "$(vaeserve completion bash)"      in ~/.bashrc
zsh:   eval "$(vaeserve completion zsh)"       in ~/.zshrc, after compinit
fish:  vaeserve completion fish | source       in ~/.config/fish/config.fish
"""


class _Bash(BashComplete):
    """Bash cuts words at : and =, so HOST:PORT is three; click takes them as they come."""

    source_template = """\
%(complete_func)s() {
    local IFS=$'\\n' word kind value joined=
    local -a words=()

    for word in "${COMP_WORDS[@]:0:COMP_CWORD+1}"; do
        if [[ ${#words[@]} -gt 0 && ( -n $joined || $word == [:=]* ) ]]; then
            words[-1]+=$word
        else
            words+=("$word")
        fi
        [[ $word == *[:=] ]] && joined=1 || joined=
    done

    while IFS=, read -r kind value; do
        case $kind in
            dir) COMPREPLY=(); compopt -o dirnames ;;
            file) COMPREPLY=(); compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(env COMP_WORDS="${words[*]}" COMP_CWORD=$((${#words[@]} - 1)) \
%(complete_var)s=bash_complete "$1")
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


@click.command(help=_HELP)
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, *, shell: str) -> None:
    """Print a completion script."""
    kind = _Bash if shell == "bash" else get_completion_class(shell)
    if kind is None:  # click without it is newer than this
        raise click.ClickException(f"this version of click completes nothing in {shell}")
    script = kind(ctx.find_root().command, {}, "vaeserve", _VARIABLE)
    click.echo(script.source())
