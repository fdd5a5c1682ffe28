"""Regenerate a client's wire code from the .proto files; --check only compares.

Run it with the project's Python, which brings protoc (grpcio-tools); for Node after `npm ci` in
clients/node.
"""

import argparse
import filecmp
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from google.rpc import error_details_pb2

ROOT = Path(__file__).resolve().parent
CLIENTS = ROOT.parent / "clients"
SCRIPTS = Path(sysconfig.get_path("scripts"))
SEARCH_PATHS = {
    ROOT / "vaeserve": str(ROOT),
    ROOT / "inference": f"vaeserve/inference={ROOT / 'inference'}",
}
"""protoc's -I for the files of a folder; VIRTUAL=DISK gives them another import path."""
TS_PROTO = ",".join(
    (
        "env=node",
        "esModuleInterop=true",
        "exportCommonSymbols=false",
        "forceLong=bigint",
        "importSuffix=.js",
        "oneof=unions-value",
        "outputJsonMethods=false",
        "outputServices=grpc-js",
    )
)


class Language(NamedTuple):
    """What is generated for one client.

    Attributes:
        generate: writes it under a folder.
        out: the folder in the repository.
        pattern: of the generated files there.
        command: makes them anew.
    """

    generate: Callable[[Path], None]
    out: Path
    pattern: str
    command: str

    def stale_files(self) -> list[str]:
        """Name the committed files that a fresh generation would add, drop or change."""
        with tempfile.TemporaryDirectory() as tmp:
            self.generate(Path(tmp))
            fresh, held = self._names(Path(tmp)), self._names(self.out)
            same, *_ = filecmp.cmpfiles(tmp, self.out, fresh & held, shallow=False)
            return sorted((fresh | held) - set(same))

    def _names(self, folder: Path) -> set[str]:
        return {str(path.relative_to(folder)) for path in folder.rglob(self.pattern)}


def protoc(*arguments: str | Path) -> None:
    """Run protoc once.

    Raises:
        subprocess.CalledProcessError: it refused; it has said why.
    """
    command = [sys.executable, "-m", "grpc_tools.protoc", *map(str, arguments)]
    subprocess.run(command, check=True)


def generate_python(out: Path) -> None:
    """Write messages for every file, gRPC stubs only for ``*_service.proto``.

    A file is generated under the virtual path at which it shall be imported, so the generated
    absolute imports are right as they stand: vaeserve/v1 is where it lies; the Open Inference
    Protocol, whose package `inference` would take a top-level name that is not ours, goes to
    vaeserve/inference.
    """
    plugins = [f"--plugin={SCRIPTS / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    for folder, path in SEARCH_PATHS.items():
        messages, services = (sorted(folder.rglob(f"*{end}.proto")) for end in ("", "_service"))
        outs = f"--python_out={out}", f"--mypy_out=quiet:{out}"
        protoc(f"-I{path}", *plugins, *outs, *messages)
        outs = f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}"
        protoc(f"-I{path}", *plugins, *outs, *services)


def generate_node(out: Path) -> None:
    """Write a TypeScript file for every .proto file that a client needs, by ts-proto.

    The messages of rich errors (google/rpc) come from googleapis-common-protos.
    """
    out.mkdir(parents=True, exist_ok=True)
    protoc(
        f"-I{ROOT}",
        f"-I{Path(error_details_pb2.__file__).parents[2]}",
        f"--plugin={CLIENTS / 'node' / 'node_modules' / '.bin' / 'protoc-gen-ts_proto'}",
        f"--ts_proto_out={out}",
        f"--ts_proto_opt={TS_PROTO}",
        *(path.relative_to(ROOT) for path in sorted((ROOT / "vaeserve").rglob("*.proto"))),
        "google/rpc/status.proto",
        "google/rpc/error_details.proto",
    )


LANGUAGES = {
    "python": Language(generate_python, CLIENTS / "python", "*_pb2*[!c]", "make proto"),
    "node": Language(
        generate_node, CLIENTS / "node" / "src" / "generated", "*.ts", "npm run generate"
    ),
}


def main() -> int:
    """Regenerate, or report drift with status 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("language", choices=LANGUAGES)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    asked = parser.parse_args()
    language = LANGUAGES[asked.language]
    if not asked.check:
        language.generate(language.out)
        return 0
    stale = language.stale_files()
    for path in stale:
        print(f"stale, run `{language.command}`: {path}", file=sys.stderr)
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main())
