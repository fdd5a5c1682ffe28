"""The committed wire code refuses older run times; the package's floors must not promise more."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WIRE = ROOT / "clients" / "python" / "vaeserve" / "v1"


def floor(package: str) -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirement in project["dependencies"]:
        if match := re.fullmatch(rf"{package}>=([\d.]+)", requirement):
            return match[1]
    raise AssertionError(f"{package} has no floor")


def test_protobuf() -> None:
    for file in WIRE.glob("*_pb2.py"):
        generated = re.search(r"# Protobuf Python Version: ([\d.]+)", file.read_text())
        assert generated is not None
        assert generated[1] == floor("protobuf")


def test_grpcio() -> None:
    for file in WIRE.glob("*_pb2_grpc.py"):
        generated = re.search(r"GRPC_GENERATED_VERSION = '([\d.]+)'", file.read_text())
        assert generated is not None
        assert generated[1] == floor("grpcio")
