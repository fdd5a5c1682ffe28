"""How the commands reach a server: the options of a connection, and the client they make."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from vaeserve._client import Client
from vaeserve._security import Tls

_CommandT = TypeVar("_CommandT", bound=Callable[..., Any])

_META = "vaeserve.connection"
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "tls": (
        "--tls/--no-tls",
        {"default": None, "help": "TLS; --no-tls lets a token travel in plaintext."},
    ),
    "ca": ("--tls-ca", {"type": _FILE, "help": "Authorities of the server's certificate, PEM."}),
    "cert": ("--tls-cert", {"type": _FILE, "help": "Certificate to show the server, PEM."}),
    "key": ("--tls-key", {"type": _FILE, "help": "Private key of --tls-cert, PEM."}),
    "token": ("--token-file", {"type": _FILE, "help": "File with the token to send."}),
}


def connection_options(command: _CommandT) -> _CommandT:
    """The options of a connection, for a command that calls `client_at` or `credentials`.

    Each can be set by environment, VAESERVE_CLIENT_TLS_CA for --tls-ca.
    """
    for name, (flag, settings) in reversed(_OPTIONS.items()):
        command = click.option(
            flag,
            f"connection_{name}",
            expose_value=False,
            callback=_remember,
            envvar=f"VAESERVE_CLIENT_{flag.split('/')[0].strip('-').replace('-', '_').upper()}",
            **settings,
        )(command)
    return command


class Credentials(NamedTuple):
    """Arguments of a client."""

    tls: bool | Tls | None
    token: str | None


def credentials() -> Credentials:
    """What the options of the command that runs say."""
    given = click.get_current_context().meta.get(_META, {})
    files = {name: given[name] for name in ("ca", "cert", "key") if name in given}
    token = given["token"].read_text().strip() if "token" in given else None
    return Credentials(Tls(**files) if files else given.get("tls"), token)


def client_at(address: str) -> Client:
    """A client by the options of the command that runs.

    Raises:
        InvalidInput: as `Client`.
    """
    tls, token = credentials()
    return Client(address, tls=tls, token=token)


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value is not None:
        name = str(param.name).removeprefix("connection_")
        ctx.meta.setdefault(_META, {})[name] = value
