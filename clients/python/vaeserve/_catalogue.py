"""`vaeserve models`: what a server has, as a table or JSON."""

import json
from typing import Any

import click

from vaeserve._dial import client_at, connection_options
from vaeserve._info import ModelInfo, ModelState
from vaeserve._table import laid_out
from vaeserve._writers import write_text

_HEADINGS = ("MODEL", "VERSION", "READY", "INPUT", "LATENT", "LIKELIHOOD", "PRECISION", "SIZE")
_RIGHT = {"VERSION", "SIZE"}  # numbers


@click.command()
@click.argument("address")
@connection_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
def models(*, address: str, as_json: bool) -> None:
    """List the models of the server at ADDRESS (host:port)."""
    with client_at(address) as client:
        found = [
            (state, client.model(state.name).info if state.ready else None)
            for state in client.models()
        ]
    if as_json:
        shown = json.dumps([_facts(state, info) for state, info in found])
    else:
        table = laid_out(_HEADINGS, [_line(state, info) for state, info in found], _RIGHT)
        problems = [f"{state.name}: {state.problem}" for state, _ in found if state.problem]
        shown = "\n\n".join([table, *problems])
    write_text(None, f"{shown}\n")


def _facts(state: ModelState, info: ModelInfo | None) -> dict[str, Any]:
    facts: dict[str, Any] = {
        name: getattr(state, name) for name in ("name", "version", "ready", "problem")
    }
    if info:
        facts |= {
            name: getattr(info, name)
            for name in ("input_shape", "latent_shape", "likelihood", "precision")
        }
        facts["size_bytes"] = _size(info)
    return facts


def _line(state: ModelState, info: ModelInfo | None) -> tuple[str, ...]:
    start = (state.name, str(state.version or "-"), "yes" if state.ready else "no")
    if not info:
        return (*start, "-", "-", "-", "-", "-")
    shapes = ("x".join(map(str, shape)) for shape in (info.input_shape, info.latent_shape))
    return (*start, *shapes, info.likelihood, info.precision, _readable(_size(info)))


def _size(info: ModelInfo) -> int:
    """Bytes of the version's files."""
    return sum(file.size_bytes for file in info.manifest.files)


def _readable(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
