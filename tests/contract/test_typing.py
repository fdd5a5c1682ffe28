"""The SDK's types, as a user's type checker sees them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import vaeserve

PACKAGE = Path(vaeserve.__file__).parent
PROGRAM = Path(__file__).parents[1] / "typing" / "user_program.py"


def test_mypy_strict_passes_on_a_program_of_a_user(tmp_path: Path) -> None:
    assert (PACKAGE / "py.typed").is_file()
    shutil.copy(PROGRAM, tmp_path / "program.py")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--warn-unreachable", "program.py"),
            *("--follow-imports=silent", "--config-file=", "--cache-dir=.cache"),
        ],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
