"""What a training ran with: versions, and the state of the code around it."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch


def versions(folder: Path) -> dict[str, str]:
    """Versions of Python, PyTorch and this package; "git": the folder's commit, if it has one.

    The commit ends with "-dirty" where the repository differs from it.
    """
    found = {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "vaeserve": metadata.version("vaeserve"),
    }
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    if commit:
        changes = _git(folder, "status", "--porcelain")
        found["git"] = commit if changes == "" else f"{commit}-dirty"
    return found


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints; None where there is no git or no repository."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError:
        return None
    return result.stdout.strip() if result.returncode == 0 else None
