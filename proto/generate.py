"""Regenerate the Python wire code from the .proto files; --check only compares.

Messages of every file, gRPC stubs only for ``*_service.proto``. A file is generated under the
virtual path at which it shall be imported, so the generated absolute imports are right as they
stand: vaeserve/v1 is where it lies; the Open Inference Protocol, whose package `inference` would
take a top-level name that is not ours, goes to vaeserve/inference.
"""

import argparse
import filecmp
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
OUT = ROOT.parent / "clients" / "python"
SCRIPTS = Path(sysconfig.get_path("scripts"))
SEARCH_PATHS = {
    ROOT / "vaeserve": str(ROOT),
    ROOT / "inference": f"vaeserve/inference={ROOT / 'inference'}",
}
"""protoc's -I for the files of a folder; VIRTUAL=DISK gives them another import path."""


def protoc(out: Path, path: str, protos: list[Path], *plugins: str) -> None:
    """Run protoc once on files of one virtual path, writing under ``out``."""
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"-I{path}",
            f"--plugin=protoc-gen-mypy={SCRIPTS / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={SCRIPTS / 'protoc-gen-mypy_grpc'}",
            *(f"--{name}={'quiet:' if name.startswith('mypy') else ''}{out}" for name in plugins),
            *map(str, protos),
        ],
        check=True,
    )


def generate(out: Path) -> None:
    """Write messages for every file and stubs for the services."""
    for folder, path in SEARCH_PATHS.items():
        services = sorted(folder.rglob("*_service.proto"))
        protoc(out, path, sorted(folder.rglob("*.proto")), "python_out", "mypy_out")
        protoc(out, path, services, "grpc_python_out", "mypy_grpc_out")


def stale_files() -> list[str]:
    """Name the committed files that a fresh generation would add, drop or change."""
    with tempfile.TemporaryDirectory() as tmp:
        generate(Path(tmp))
        fresh = {path.relative_to(tmp) for path in Path(tmp).rglob("*_pb2*.py*")}
        held = {
            path.relative_to(OUT)
            for path in OUT.rglob("*_pb2*.py*")
            if "__pycache__" not in path.parts
        }
        same, *_ = filecmp.cmpfiles(tmp, OUT, [str(path) for path in fresh & held], shallow=False)
        return sorted(map(str, (fresh | held) - {Path(path) for path in same}))


def main() -> int:
    """Regenerate, or report drift with status 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    if not parser.parse_args().check:
        generate(OUT)
        return 0
    stale = stale_files()
    for path in stale:
        print("stale, run `make proto`:", path, file=sys.stderr)
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main())
