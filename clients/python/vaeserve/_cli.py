"""The root command `vaeserve`: a table of sub-commands, each loaded when it is called.

One distribution holds client, server and exporter, and most installations have only some of their
requirements. So listing the commands imports none of them, and a command whose requirements are
missing says in one line which extra brings them.
"""

from importlib import import_module
from typing import Any, NamedTuple

import click

from vaeserve._errors import VaeserveError
from vaeserve._suggest import did_you_mean
from vaeserve._version import __version__


class _Entry(NamedTuple):
    """A sub-command: "module:attribute", the extras that run it, what `--help` says about it."""

    target: str
    extras: tuple[str, ...]
    summary: str


_EXPORT, _SERVER, _CLIENT = "vaeserve_export.cli", "vaeserve_server.cli", "vaeserve._commands"
_LATENT = "vaeserve._latent_commands"
_COMMANDS = {
    "train": _Entry(f"{_EXPORT}.train:train", ("train",), "Train a VAE."),
    "fit-prior": _Entry(
        f"{_EXPORT}.fit_prior:fit_prior", ("train",), "Fit a prior to where the data lies."
    ),
    "fit-attribute": _Entry(
        f"{_EXPORT}.fit_attribute:fit_attribute", ("train",), "Fit a direction to edit along."
    ),
    "diagnose": _Entry(
        f"{_EXPORT}.diagnose:diagnose", ("train",), "Name what is wrong with a trained VAE."
    ),
    "export": _Entry(
        f"{_EXPORT}.export:export", ("train",), "Export a trained VAE to a repository."
    ),
    "evaluate": _Entry(f"{_EXPORT}.evaluate:evaluate", ("train",), "Measure a trained VAE."),
    "verify": _Entry(f"{_EXPORT}.verify:verify", ("train",), "Check an exported bundle."),
    "serve": _Entry(f"{_SERVER}:serve", ("server", "gpu"), "Serve a model repository."),
    "doctor": _Entry(f"{_SERVER}:doctor", ("server", "gpu"), "Say what this machine can serve."),
    "models": _Entry("vaeserve._catalogue:models", ("images",), "List the models of a server."),
    "encode": _Entry(f"{_CLIENT}:encode", ("images",), "Encode pictures to posteriors."),
    "decode": _Entry(f"{_CLIENT}:decode", ("images",), "Decode latents to pictures."),
    "sample": _Entry(f"{_CLIENT}:sample", ("images",), "Draw pictures from the prior."),
    "reconstruct": _Entry(f"{_CLIENT}:reconstruct", ("images",), "Encode and decode pictures."),
    "interpolate": _Entry(f"{_CLIENT}:interpolate", ("images",), "Walk between two pictures."),
    "edit": _Entry(f"{_LATENT}:edit", ("images",), "Move pictures along attributes."),
    "score": _Entry(f"{_LATENT}:score", ("images",), "Say how well a model knows pictures."),
    "loadtest": _Entry("vaeserve_loadtest.cli:loadtest", ("loadtest",), "Measure under load."),
    "playground": _Entry(
        "vaeserve_playground.cli:playground", ("playground",), "Look at models on a local web page."
    ),
    "demo": _Entry(
        "vaeserve_demo.cli:demo", ("demo",), "Train, export, serve and call, in one go."
    ),
    "completion": _Entry("vaeserve._completion:completion", ("images",), "Complete in a shell."),
}


# Packages that a command needs beside its own extra's: export and verify run the graphs they write.
_SHARED = {"onnxruntime": ("server", "gpu")}


class _LazyGroup(click.Group):
    """A group that knows its commands by name and imports one only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table: from training to serving to calling."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command; None for a name that is not in the table."""
        if cmd_name not in _COMMANDS:
            return None
        ctx.invoked_subcommand = cmd_name  # click sets it after the import only, which may fail
        module, _, attribute = _COMMANDS[cmd_name].target.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but the nearest names are told for one that is not in the table."""
        name = args[0]
        if name not in _COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"No such command {name!r}.{did_you_mean(name, _COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table, so that help imports nothing."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in _COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; failed calls and missing requirements end in one line and status 1."""
        try:
            return super().invoke(ctx)
        except VaeserveError as exc:
            raise click.ClickException(str(exc)) from exc
        except ModuleNotFoundError as exc:
            if exc.name is None or exc.name.startswith("vaeserve"):
                raise  # a fault of ours, no missing requirement
            raise click.ClickException(
                _requirement(ctx.invoked_subcommand or "", exc.name)
            ) from exc


def _requirement(command: str, package: str) -> str:
    extras = _SHARED.get(package, _COMMANDS[command].extras)
    named = " or ".join(f"[{extra}]" for extra in extras)
    return f"vaeserve {command} needs the {named} extra: pip install 'vaeserve[{extras[0]}]'"


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vaeserve")
def main() -> None:
    """Train a variational autoencoder, serve it over gRPC, and call it."""
