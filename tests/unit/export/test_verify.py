"""Verification finds every kind of damage, names it, and needs no PyTorch."""

import io
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vaeserve.v1 import archives, bundle, model_pb2
from vaeserve_export import npz
from vaeserve_export.bundling.verify import verify
from vaeserve_export.bundling.verify_parity import Expected, Floats, measure_batches
from vaeserve_export.errors import VerifyError

Replace = Callable[[str, bytes], None]


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


def test_batch_difference_is_measured() -> None:
    """A graph whose rows depend on the size of their batch."""

    def run(rows: Floats) -> list[Floats]:
        return [rows + np.float32(1e-7 * len(rows))]

    graph = model_pb2.Graph(file="f", output_names=["y"])
    rows = np.zeros((64, 3), np.float32)
    exact = bundle.Tolerance(1e-5, 1e-4)
    parity, difference = measure_batches(run, graph, rows, [Expected(rows, exact)])
    assert parity == pytest.approx([64e-7])
    assert difference == pytest.approx(63e-7)


def test_needs_no_pytorch(folder: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from vaeserve_export.bundling.verify import verify;"
        "verify(Path(sys.argv[1])); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, folder], check=True)
