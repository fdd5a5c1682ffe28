"""`vaeserve completion`: the script that makes a shell complete this command line."""

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

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


class _Zsh(ZshComplete):
    """To zsh --model=di is one word; what click completes is what stands behind the =."""

    source_template = ZshComplete.source_template.replace(
        "%(complete_func)s() {\n",
        "%(complete_func)s() {\n    [[ $PREFIX == -*=* ]] && compset -P '*='\n",
        1,
    ).replace("compadd -U", 'compadd -i "$IPREFIX" -U', 1)


class _Fish(FishComplete):
    """To fish, too, which takes what begins with the whole word only."""

    source_template = (
        FishComplete.source_template.replace(
            "    for completion in",
            "    set -l option (string match -r -- '^-[^=]*=' (commandline -t));\n"
            "    for completion in",
            1,
        )
        .replace("echo $metadata[2];", 'echo "$option$metadata[2]";', 1)
        .replace(
            "__fish_complete_path $metadata[2];",
            '__fish_complete_path $metadata[2] | string replace -r -- "^" "$option";',
            1,
        )
    )


_SHELLS: dict[str, type[ShellComplete]] = {"bash": _Bash, "zsh": _Zsh, "fish": _Fish}


@click.command(help=_HELP)
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@click.pass_context
def completion(ctx: click.Context, *, shell: str) -> None:
    """Print a completion script."""
    script = _SHELLS[shell](ctx.find_root().command, {}, "vaeserve", _VARIABLE)
    click.echo(script.source())
