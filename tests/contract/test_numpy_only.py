"""A bundle is of use without this project: ONNX Runtime, numpy and JSON load it and prove it.

A fresh environment with these alone would need a network; instead a process of its own refuses to
import anything else that could help.
"""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "onnx", "onnxscript", "onnx_ir", "vaeserve", "grpc",
                                      "vaeserve_export", "vaeserve_server", "safetensors"}:
            raise ImportError(f"{name} is not there")

sys.meta_path.insert(0, Refuse())

import hashlib, json, pathlib
import numpy as np
import onnxruntime as ort

folder, tolerance = pathlib.Path(sys.argv[1]), float(sys.argv[2])
info = json.loads((folder / "model.json").read_text())
for file in info["files"]:
    assert hashlib.sha256((folder / file["name"]).read_bytes()).hexdigest() == file["sha256"]
golden = np.load(folder / "golden.npz")
for graph, given in (("encoder", "x"), ("decoder", "z")):
    entry = info[graph]
    session = ort.InferenceSession(folder / entry["file"], providers=["CPUExecutionProvider"])
    outputs = session.run(entry["output_names"], {entry["input_name"]: golden[given]})
    for name, output in zip(entry["output_names"], outputs, strict=True):
        apart = np.abs(output - golden[name]).max()
        assert apart <= tolerance, (name, apart)
assert not {"torch", "onnx", "vaeserve"} & set(sys.modules)
print(len(golden["x"]))
"""


@pytest.mark.parametrize(
    ("place", "name", "tolerance"),
    [
        ("repository", "digits", 1e-5),
        ("repository", "rgb", 1e-5),
        ("precisions", "digits-fp16", 2e-3),
        ("precisions", "digits-int8", 0.2),
    ],
)
def test_a_bundle_loads_with_onnxruntime_and_numpy_only(
    request: pytest.FixtureRequest, place: str, name: str, tolerance: float
) -> None:
    folder: Path = request.getfixturevalue(place) / name / "1"
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", PROGRAM, folder, str(tolerance)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "256\n"
