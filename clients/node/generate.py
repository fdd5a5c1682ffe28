"""Regenerate src/generated from the .proto files with ts-proto; --check only compares.

Run it with the project's Python after `npm ci`: protoc comes with grpcio-tools, and the messages of
rich errors (google/rpc) with googleapis-common-protos.
"""

import argparse
import filecmp
import subprocess
import sys
import tempfile
from pathlib import Path

from google.rpc import error_details_pb2

HERE = Path(__file__).resolve().parent
PROTO = HERE.parents[1] / "proto"
OUT = HERE / "src" / "generated"
PLUGIN = HERE / "node_modules" / ".bin" / "protoc-gen-ts_proto"
OPTIONS = ",".join(
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


def generate(out: Path) -> None:
    """Write a TypeScript file for every .proto file that a client needs, under `out`."""
    packages = Path(error_details_pb2.__file__).parents[2]
    names = [path.relative_to(PROTO) for path in sorted((PROTO / "vaeserve").rglob("*.proto"))]
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"-I{PROTO}",
            f"-I{packages}",
            f"--plugin=protoc-gen-ts_proto={PLUGIN}",
            f"--ts_proto_out={out}",
            f"--ts_proto_opt={OPTIONS}",
            *map(str, names),
            "google/rpc/status.proto",
            "google/rpc/error_details.proto",
        ],
        check=True,
    )


def stale_files() -> list[str]:
    """Name the committed files that a fresh generation would add, drop or change."""
    with tempfile.TemporaryDirectory() as tmp:
        generate(Path(tmp))
        fresh = {str(path.relative_to(tmp)) for path in Path(tmp).rglob("*.ts")}
        held = {str(path.relative_to(OUT)) for path in OUT.rglob("*.ts")}
        same, *_ = filecmp.cmpfiles(tmp, OUT, fresh & held, shallow=False)
        return sorted((fresh | held) - set(same))


def main() -> int:
    """Regenerate, or report drift with status 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    if not parser.parse_args().check:
        OUT.mkdir(parents=True, exist_ok=True)
        generate(OUT)
        return 0
    stale = stale_files()
    for path in stale:
        print("stale, run `npm run generate`:", path, file=sys.stderr)
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main())
