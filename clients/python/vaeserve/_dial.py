"""How the commands reach a server and its model: the options of both, and the client they make."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click
from click.core import ParameterSource

from vaeserve._channel import DEFAULT_TIMEOUT
from vaeserve._client import Client
from vaeserve._errors import DeadlineExceeded, VaeserveError
from vaeserve._security import Tls

_CommandT = TypeVar("_CommandT", bound=Callable[..., Any])

_META = "vaeserve.connection"
_COMPLETION_SECONDS = 1.0  # a shell that waits for its completions feels broken
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
    "timeout": (
        "--timeout",
        {
            "metavar": "SECONDS",
            "type": click.FloatRange(min=0, min_open=True),
            "default": DEFAULT_TIMEOUT,
            "show_default": True,
            "help": "How long to wait for an answer.",
        },
    ),
}
_TLS_FILES = ("ca", "cert", "key")
_CREDENTIALS = tuple(name for name in _OPTIONS if name != "timeout")


def connection_options(command: _CommandT) -> _CommandT:
    """The options of a connection, for a command that calls `client_at`.

    Each can be set by environment, VAESERVE_CLIENT_TLS_CA for --tls-ca.
    """
    return _with_options(command, tuple(_OPTIONS))


def credential_options(command: _CommandT) -> _CommandT:
    """As `connection_options` without --timeout, for a command that has one of its own."""
    return _with_options(command, _CREDENTIALS)


def model_option(command: _CommandT) -> _CommandT:
    """--model, which a shell completes from what the server has."""
    return click.option(
        "--model",
        shell_complete=_complete_model,
        help="Name of the model; may be left out where only one is ready.",
    )(command)


def _with_options(command: _CommandT, names: tuple[str, ...]) -> _CommandT:
    for name in reversed(names):
        flag, settings = _OPTIONS[name]
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
    """What the options of the command that runs say.

    Raises:
        click.UsageError: they contradict each other, or the token's file holds no text.
    """
    given = _given()
    files = {name: given[name] for name in _TLS_FILES if name in given}
    if given.get("tls") is False and files:
        files = _files_without_tls(files)
    try:
        token = given["token"].read_text(encoding="utf-8").strip() if "token" in given else None
    except UnicodeDecodeError as exc:
        raise click.UsageError(f"--token-file {given['token']}: holds no text") from exc
    return Credentials(Tls(**files) if files else given.get("tls"), token)


def _files_without_tls(files: dict[str, Path]) -> dict[str, Path]:
    """Those that count beside --no-tls: what is typed overrules the environment."""
    source = click.get_current_context().get_parameter_source
    typed = {
        name: path
        for name, path in files.items()
        if source(f"connection_{name}") is ParameterSource.COMMANDLINE
    }
    if source("connection_tls") is not ParameterSource.COMMANDLINE:
        return typed
    if typed:
        flags = ", ".join(_OPTIONS[name][0] for name in typed)
        raise click.UsageError(f"--no-tls and {flags} do not go together: leave one out")
    return {}


@contextmanager
def client_at(address: str) -> Iterator[Client]:
    """A client by the options of the command that runs, closed at the end.

    Raises:
        VaeserveError: as `Client` and the calls inside; DeadlineExceeded names the option.
    """
    tls, token = credentials()
    timeout = _given().get("timeout", DEFAULT_TIMEOUT)
    with Client(address, timeout=timeout, tls=tls, token=token) as client:
        try:
            yield client
        except DeadlineExceeded as exc:
            raise DeadlineExceeded(
                f"{exc.details}; --timeout SECONDS allows more", code=exc.code, reason=exc.reason
            ) from exc


def only_model(client: Client, timeout: float | None = None) -> str:
    """The model that is ready on a server with one.

    Args:
        client: the server's.
        timeout: seconds; None for the client's own.

    Raises:
        VaeserveError: as `Client.models`.
        click.UsageError: none is ready, or several are.
    """
    ready = [state.name for state in client.models(timeout=timeout) if state.ready]
    if len(ready) != 1:
        served = ", ".join(ready) or "none"
        raise click.UsageError(f"Say which model with --model NAME; ready here: {served}.")
    return ready[0]


def known_models(client: Client, timeout: float | None = None) -> list[str]:
    """Names of all models for a hint: none where the server does not tell."""
    try:
        return [state.name for state in client.models(timeout=timeout)]
    except VaeserveError:  # the hint is not worth another error
        return []


def _complete_model(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The server's models, where the address stands already and answers at once."""
    # Where --model is the last word, click stops before it hands out the arguments.
    address = ctx.params.get("address") or next(iter(ctx.args), None)
    if not address:
        return []
    try:
        with ctx.scope(cleanup=False), client_at(address) as client:
            names = known_models(client, timeout=_COMPLETION_SECONDS)
    except (VaeserveError, OSError):
        return []
    return [name for name in names if name.startswith(incomplete)]


def _given() -> dict[str, Any]:
    given: dict[str, Any] = click.get_current_context().meta.get(_META, {})
    return given


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value is not None:
        name = str(param.name).removeprefix("connection_")
        ctx.meta.setdefault(_META, {})[name] = value
