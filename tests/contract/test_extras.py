"""onnxruntime and onnxruntime-gpu own one import name: no install of ours may bring both."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def closure(extra: str) -> set[str]:
    """Packages of an extra and of those of ours that it names."""
    names = set()
    for requirement in EXTRAS[extra]:
        match = re.match(r"([\w-]+)(?:\[([^]]*)\])?", requirement)
        assert match is not None
        if match[1] == "vaeserve":
            names |= set().union(*map(closure, match[2].split(",")))
        else:
            names.add(match[1])
    return names


@pytest.mark.parametrize("extra", EXTRAS)
def test_no_extra_brings_both(extra: str) -> None:
    assert not {"onnxruntime", "onnxruntime-gpu"} <= closure(extra)


def test_server_and_gpu_differ_in_where_graphs_run_alone() -> None:
    on_cpu, on_gpu = closure("server"), closure("gpu")
    assert on_cpu - on_gpu == {"onnxruntime"}
    assert on_gpu - on_cpu == {"onnxruntime-gpu", "nvidia-ml-py"}


def test_gpu_brings_the_libraries_of_cuda() -> None:
    (requirement,) = [each for each in EXTRAS["gpu"] if each.startswith("onnxruntime-gpu")]
    assert "[cuda,cudnn]" in requirement
