"""Verification finds every kind of damage, names it, and needs no PyTorch."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from vaeserve.v1 import bundle, model_pb2
from vaeserve_export import npz, verify as verifying
from vaeserve_export.errors import VerifyError
from vaeserve_export.verify import verify

Replace = Callable[[str, bytes], None]


def decoder(*nodes: onnx.NodeProto, batch: str | int = "batch", output: str = "x_hat") -> bytes:
    """A graph in place of the digits' decoder."""
    z = helper.make_tensor_value_info("z", TensorProto.FLOAT, [batch, 20])
    x_hat = helper.make_tensor_value_info(output, TensorProto.FLOAT, [batch, 20])
    graph = helper.make_graph(list(nodes), "decoder", [z], [x_hat])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.example", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def test_sound_bundle_is_left_as_it_is(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    result = verify(folder)
    assert result.recorded
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_new_figures_are_recorded(folder: Path) -> None:
    info = bundle.read_manifest(folder)
    info.numerics.Clear()
    bundle.write_manifest(folder, info)

    assert verify(folder).recorded

    numerics = bundle.read_manifest(folder).numerics
    assert numerics.provider == "CPUExecutionProvider"
    assert numerics.rows == 256
    assert 0 < numerics.parity_x_hat <= 1e-5


def test_read_only_folder_is_verified_all_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = bundle.read_manifest(folder)
    info.numerics.Clear()
    bundle.write_manifest(folder, info)

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(bundle, "write_manifest", refuse)
    result = verify(folder)
    assert not result.recorded
    assert result.info.numerics.rows == 256


@pytest.mark.parametrize(
    "file", [bundle.ENCODER, bundle.DECODER, bundle.GOLDEN, bundle.CALIBRATION]
)
def test_flipped_byte(folder: Path, file: str, refused: Callable[..., str]) -> None:
    content = bytearray((folder / file).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / file).write_bytes(content)
    assert f"{file}: differs from its digest" in refused("verify", folder)


@pytest.mark.parametrize("file", [bundle.ENCODER, bundle.CALIBRATION, bundle.MANIFEST])
def test_missing_file(folder: Path, file: str, refused: Callable[..., str]) -> None:
    (folder / file).unlink()
    assert f"{file}: cannot be read: No such file" in refused("verify", folder)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname"])
def test_path_outside_the_folder(folder: Path, name: str, refused: Callable[..., str]) -> None:
    (folder.parent / "outside").write_bytes(b"x")
    info = bundle.read_manifest(folder)
    info.files.append(bundle.digest(name, b"x"))
    bundle.write_manifest(folder, info)
    assert "lies outside the bundle's folder" in refused("verify", folder)


def test_random_operator(folder: Path, replace_file: Replace, refused: Callable[..., str]) -> None:
    noise = helper.make_node("RandomNormalLike", ["z"], ["x_hat"])
    replace_file(bundle.DECODER, decoder(noise))
    line = refused("verify", folder)
    assert "decoder.onnx: holds the random operator RandomNormalLike" in line


def test_random_operator_inside_a_branch(folder: Path, replace_file: Replace) -> None:
    def branch(name: str, node: onnx.NodeProto) -> onnx.GraphProto:
        value = helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)
        return helper.make_graph([node], name, [], [value])

    yes = helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("b", 9, [], [1]))
    choice = helper.make_node(
        "If",
        ["yes"],
        ["x_hat"],
        then_branch=branch("then", helper.make_node("RandomUniformLike", ["z"], ["a"])),
        else_branch=branch("else", helper.make_node("Identity", ["z"], ["b"])),
    )
    replace_file(bundle.DECODER, decoder(yes, choice))
    with pytest.raises(VerifyError, match="random operator RandomUniformLike"):
        verify(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "decoder.onnx: is no valid ONNX model"),
        (b"not a protobuf", "decoder.onnx: is no valid ONNX model"),
        (
            decoder(helper.make_node("Dropout", ["z"], ["x_hat"])),
            "holds the random operator Dropout",
        ),
        (
            decoder(helper.make_node("Sharpen", ["z"], ["x_hat"], domain="com.example")),
            r"operator com\.example\.Sharpen is not standard",
        ),
        (
            decoder(helper.make_node("Identity", ["z"], ["y"]), output="y"),
            "outputs are y instead of x_hat",
        ),
        (
            decoder(helper.make_node("Identity", ["z"], ["x_hat"]), batch=2),
            "z has a fixed first axis",
        ),
        (
            decoder(helper.make_node("Identity", ["z"], ["x_hat"])),
            r"x_hat has shape \[256, 20\], not \[256, 1, 8, 8\]",
        ),
    ],
)
def test_bad_graph(folder: Path, replace_file: Replace, content: bytes, message: str) -> None:
    replace_file(bundle.DECODER, content)
    with pytest.raises(VerifyError, match=message):
        verify(folder)


def test_weights_in_another_file(folder: Path, replace_file: Replace) -> None:
    model = onnx.load_model_from_string((folder / bundle.DECODER).read_bytes())
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="../weights.bin")
    replace_file(bundle.DECODER, model.SerializeToString())
    with pytest.raises(VerifyError, match=r"decoder\.onnx: "):
        verify(folder)


@pytest.mark.parametrize("array", ["mu", "log_var", "x_hat"])
@pytest.mark.parametrize("value", [1e-3, np.nan])
def test_outputs_that_are_not_pytorchs(
    folder: Path, replace_file: Replace, array: str, value: float
) -> None:
    with np.load(folder / bundle.GOLDEN) as archive:
        golden = dict(archive)
    golden[array].flat[0] += np.float32(value)
    replace_file(bundle.GOLDEN, npz.to_bytes(golden))
    with pytest.raises(VerifyError, match=f"{array} differs from PyTorch's by .* in batches of 1"):
        verify(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((0, 1, 8, 8), np.float32)}, "golden.npz: "),
        ({"x": np.zeros((256, 1, 8, 8))}, "x is float64"),
        (
            {"x": np.zeros((256, 1, 9, 8), np.float32)},
            r"x is float32 \[256, 1, 9, 8\], by the manifest",
        ),
        ({"z": np.zeros((3, 20), np.float32)}, r"z is float32 \[3, 20\]"),
    ],
)
def test_bad_golden_rows(
    folder: Path,
    replace_file: Replace,
    change: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]],
    message: str,
) -> None:
    with np.load(folder / bundle.GOLDEN) as archive:
        golden = dict(archive)
    replace_file(bundle.GOLDEN, npz.to_bytes({**golden, **change}))
    with pytest.raises(VerifyError, match=message):
        verify(folder)


def test_golden_rows_that_cannot_be_read(folder: Path, replace_file: Replace) -> None:
    replace_file(bundle.GOLDEN, b"not an archive")
    with pytest.raises(VerifyError, match=r"golden\.npz: cannot be read"):
        verify(folder)


def test_batch_difference_is_measured() -> None:
    """A graph whose rows depend on the size of their batch."""

    def run(rows: verifying.Floats) -> list[verifying.Floats]:
        return [rows + np.float32(1e-7 * len(rows))]

    graph = model_pb2.Graph(file="f", output_names=["y"])
    rows = np.zeros((64, 3), np.float32)
    parity, difference = verifying._measure(run, graph, rows, [rows])
    assert parity == pytest.approx([64e-7])
    assert difference == pytest.approx(63e-7)


def test_needs_no_pytorch(folder: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from vaeserve_export.verify import verify;"
        "verify(Path(sys.argv[1])); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, folder], check=True)
