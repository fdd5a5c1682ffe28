"""One module knows grpcio's internals, so that a new grpcio is one module's work."""

import ast
from pathlib import Path

import vaeserve_server

INTERNALS = ("grpc._", "grpc.aio._", "cygrpc")


def imported(source: str) -> set[str]:
    """Full names of all that a module imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_only_core_queue_knows_them() -> None:
    folder = Path(vaeserve_server.__file__).parent
    modules = {path.stem: path.read_text() for path in folder.rglob("*.py")}
    knowing = {
        name
        for name, source in modules.items()
        if any(module.startswith(INTERNALS) for module in imported(source))
        or "_cy_server" in source
    }
    assert knowing == {"core_queue"}
