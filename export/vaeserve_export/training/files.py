"""Files of a run: JSON, and writing that a crash cannot leave half done."""

import json
import os
from pathlib import Path
from typing import Any

from vaeserve_export.errors import RunError


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves either the old content or the new.

    Raises:
        RunError: it cannot be written.
    """
    fresh = path.with_name(f".{path.name}.new")
    try:
        with fresh.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}") from error


def json_bytes(values: dict[str, Any]) -> bytes:
    """An object as the content of a file."""
    return (json.dumps(values, indent=2) + "\n").encode()


def read_json(path: Path, missing: str) -> dict[str, Any]:
    """The object in a file.

    Args:
        path: of the file.
        missing: what to say if there is none.

    Raises:
        RunError: no file, or not an object.
    """
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise RunError(missing) from error
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise RunError(f"{path}: is not of this version: it holds no JSON object")
    return values
