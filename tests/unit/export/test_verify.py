"""Verification finds every kind of damage, names it, and needs no PyTorch."""

import io
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from vaeserve.v1 import archives, bundle, model_pb2
from vaeserve_export import npz
from vaeserve_export.bundling.graph_checks import check_graph
from vaeserve_export.bundling.verify import verify
from vaeserve_export.bundling.verify_parity import Expected, Floats, Tolerance, measure_batches
from vaeserve_export.errors import VerifyError

Replace = Callable[[str, bytes], None]


def decoder(
    *nodes: onnx.NodeProto,
    batch: str | int = "batch",
    output: str = "x_hat",
    kind: int = TensorProto.FLOAT,
) -> bytes:
    """A graph in place of the digits' decoder."""
    z = helper.make_tensor_value_info("z", kind, [batch, 20])
    x_hat = helper.make_tensor_value_info(output, kind, [batch, 20])
    graph = helper.make_graph(list(nodes), "decoder", [z], [x_hat])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.example", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def hostile_archives() -> list[bytes]:
    """What has made numpy or zipfile raise something else than ValueError."""
    array = io.BytesIO()
    np.save(array, np.ones(3))
    names = ("x", "mu", "log_var", "z", "x_hat", "percent", "kl_nats", "reconstruction_nats")
    packed, raw = io.BytesIO(), io.BytesIO()
    np.savez_compressed(packed, allow_pickle=False, **dict.fromkeys(names, np.arange(99.0)))
    with zipfile.ZipFile(raw, "w") as archive:
        for name in names:
            archive.writestr(name, b"no array")
    broken, method = bytearray(packed.getvalue()), bytearray(packed.getvalue())
    for at in range(len(method)):
        if method[at : at + 4] == b"PK\x01\x02":
            method[at + 10] = 99  # the compression method
        if broken[at : at + 4] == b"PK\x03\x04":
            start = at + 30 + broken[at + 26] + broken[at + 28]
            broken[start : start + 8] = b"\xff" * 8  # the compressed stream
    return [b"", b"not an archive", array.getvalue(), raw.getvalue(), bytes(broken), bytes(method)]


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
            decoder(
                helper.make_node("DynamicQuantizeLinear", ["z"], ["levels", "scale", "zero"]),
                helper.make_node("DequantizeLinear", ["levels", "scale", "zero"], ["x_hat"]),
            ),
            "is quantised dynamically: a row would depend on the rows beside it",
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
            decoder(helper.make_node("Identity", ["z"], ["x_hat"]), kind=TensorProto.DOUBLE),
            "z is DOUBLE; it must be FLOAT",
        ),
        (
            decoder(helper.make_node("Identity", ["z"], ["x_hat"], "", "/home/me/model")),
            "the graph holds a path: /home/me/model",
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


@pytest.mark.parametrize("file", [bundle.GOLDEN, bundle.CALIBRATION])
@pytest.mark.parametrize("content", hostile_archives())
def test_archive_that_cannot_be_read(
    folder: Path, replace_file: Replace, file: str, content: bytes
) -> None:
    replace_file(file, content)
    with pytest.raises(VerifyError, match=rf"{file}: cannot be read: .") as raised:
        verify(folder)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "change",
    [
        {name: np.zeros(0) for name in archives.Calibration._fields[:4]},
        {"percent": np.zeros(101)},
        {"percent": np.full(101, "a")},
        {"kl_nats": np.zeros(100)},
        {"kl_nats": np.zeros(101, np.float32)},
        {"reconstruction_nats": np.zeros((101, 1))},
        {"negative_elbo_nats": -np.arange(101.0)},
        {"negative_elbo_nats": np.full(101, np.nan)},
        {"mu_mean": np.zeros(1)},
    ],
)
def test_bad_calibration(folder: Path, replace_file: Replace, change: dict[str, Any]) -> None:
    with np.load(folder / bundle.CALIBRATION) as archive:
        calibration = dict(archive)
    replace_file(bundle.CALIBRATION, npz.to_bytes({**calibration, **change}))
    with pytest.raises(VerifyError, match=r"calibration\.npz: \w+ (is|holds|must) "):
        verify(folder)


@pytest.mark.parametrize("rows", [0, 1, 63])
def test_golden_rows_must_fill_the_largest_batch(
    folder: Path, replace_file: Replace, rows: int
) -> None:
    with np.load(folder / bundle.GOLDEN) as archive:
        golden = {name: array[:rows] for name, array in archive.items()}
    replace_file(bundle.GOLDEN, npz.to_bytes(golden))
    with pytest.raises(VerifyError, match=f"{rows} rows are too few: 64 fill a batch"):
        verify(folder)


@pytest.mark.parametrize("place", ["other/1", "digits/2"])
def test_place_of_another_model_or_version(folder: Path, tmp_path: Path, place: str) -> None:
    moved = tmp_path / place
    moved.parent.mkdir(exist_ok=True)
    folder.rename(moved)
    with pytest.raises(VerifyError, match=f"is digits version 1 by its manifest.* {place}$"):
        verify(moved)


def test_place_that_is_no_version_does_not_matter(folder: Path, tmp_path: Path) -> None:
    assert verify(folder.rename(tmp_path / "downloaded")).info.name == "digits"


def test_mutated_graphs_never_end_in_a_traceback(folder: Path) -> None:
    """The last bytes hold names and types, whose damage shows only when they are looked at."""
    sound = (folder / bundle.ENCODER).read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(300):
        content = bytearray(sound)
        for back in rng.integers(1, 1200, size=rng.integers(1, 5)):
            content[-back] = rng.integers(256)
        with suppress(VerifyError):
            check_graph(bytes(content), "encoder", "x", ("mu", "log_var"))


def test_batch_difference_is_measured() -> None:
    """A graph whose rows depend on the size of their batch."""

    def run(rows: Floats) -> list[Floats]:
        return [rows + np.float32(1e-7 * len(rows))]

    graph = model_pb2.Graph(file="f", output_names=["y"])
    rows = np.zeros((64, 3), np.float32)
    exact = Tolerance(1e-5, 1e-4)
    parity, difference = measure_batches(run, graph, rows, [Expected(rows, exact)])
    assert parity == pytest.approx([64e-7])
    assert difference == pytest.approx(63e-7)


def test_needs_no_pytorch(folder: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from vaeserve_export.bundling.verify import verify;"
        "verify(Path(sys.argv[1])); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, folder], check=True)
