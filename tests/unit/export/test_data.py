"""Every source, and every way in which its data can be bad: one clear line, never a traceback."""

import gzip
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from support.idx_files import idx
from vaeserve_export.data.dataset import Dataset, load, split
from vaeserve_export.errors import DataError

LEVELS = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5) * 4


def write_npz(path: Path, **arrays: Any) -> str:
    np.savez(path, **arrays)
    return f"npz:{path}"


def test_digits(digits: Dataset) -> None:
    assert digits.x.shape == (1797, 1, 8, 8)
    assert digits.x.dtype == np.float32
    assert (digits.x.min(), digits.x.max()) == (0, 1)
    assert digits.labels is not None
    assert set(digits.labels) == set(range(10))
    assert digits.level == 1 / 255


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_reads_the_train_files_only(tmp_path: Path, suffix: str) -> None:
    pack = gzip.compress if suffix else bytes
    (tmp_path / f"train-images-idx3-ubyte{suffix}").write_bytes(pack(idx(LEVELS)))
    labels = np.array([2, 0, 1], np.uint8)
    (tmp_path / f"train-labels-idx1-ubyte{suffix}").write_bytes(pack(idx(labels)))
    (tmp_path / f"t10k-images-idx3-ubyte{suffix}").write_bytes(b"not read")

    data = load(f"idx:{tmp_path}")

    np.testing.assert_array_equal(data.x, LEVELS[:, None].astype(np.float32) / np.float32(255))
    assert data.labels is not None
    assert data.labels.tolist() == [2, 0, 1]
    assert data.level is not None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (idx(LEVELS)[:10], "no such IDX file"),
        (idx(LEVELS)[:-1], "takes 76 bytes, the file has 75: it is truncated"),
        (idx(LEVELS) + b"x", "takes 76 bytes, the file has 77"),
        (idx(LEVELS[0]), "magic number 0x00000802"),
        (idx(LEVELS[:0]), "is empty"),
        (idx(LEVELS)[:8] + b"\xff" * 8, "it is truncated"),
        (idx(LEVELS)[:4] + bytes(4) + b"\xff" * 8, r"is empty: shape \[0, 4294967295"),
        (idx(LEVELS)[:4] + b"\xff" * 8 + bytes(4), "is empty"),
    ],
)
def test_bad_idx(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load(f"idx:{tmp_path}")


@pytest.mark.parametrize("cut", [0, 5, 30])
def test_truncated_gzip(tmp_path: Path, cut: int) -> None:
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(LEVELS))[:cut])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: "):
        load(f"idx:{tmp_path}")


def test_idx_labels_must_match(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(LEVELS))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(2, np.uint8)))
    with pytest.raises(DataError, match="3 rows need as many whole numbers"):
        load(f"idx:{tmp_path}")


@pytest.mark.parametrize(
    ("shape", "row_shape"),
    [
        ((3, 4, 5), (1, 4, 5)),
        ((3, 4, 5, 1), (1, 4, 5)),
        ((3, 4, 5, 3), (3, 4, 5)),
        ((3, 3, 4, 5), (3, 4, 5)),
    ],
)
def test_npz_pictures(tmp_path: Path, shape: tuple[int, ...], row_shape: tuple[int, ...]) -> None:
    data = load(write_npz(tmp_path / "a.npz", images=np.full(shape, 51, np.uint8)))
    assert data.x.shape == (3, *row_shape)
    np.testing.assert_array_equal(data.x, np.float32(51) / np.float32(255))
    assert data.level is not None


def test_npz_channels_stay_apart(tmp_path: Path) -> None:
    images = np.zeros((2, 4, 5, 3), np.uint8)
    images[..., 2] = 255
    data = load(write_npz(tmp_path / "a.npz", images=images))
    assert data.x.mean((0, 2, 3)).tolist() == [0, 0, 1]


def test_npz_binary_pictures_are_in_range_already(tmp_path: Path) -> None:
    data = load(write_npz(tmp_path / "a.npz", train=np.ones((2, 4, 5), np.uint8)))
    assert data.x.min() == 1


def test_npz_vectors(tmp_path: Path) -> None:
    x = np.array([[-1.5, 2.0], [0.0, 1e30]])
    data = load(write_npz(tmp_path / "a.npz", x=x, labels=np.array([1, 0])))
    np.testing.assert_array_equal(data.x, x.astype(np.float32))
    assert data.labels is not None
    assert data.level is None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": np.zeros((2, 3))}, "holds no array named images, x or train"),
        ({"x": np.zeros((0, 3))}, "is empty"),
        ({"x": np.zeros((3, 0))}, "is empty"),
        ({"images": np.zeros((0, 4, 4), np.uint8)}, "is empty"),
        ({"x": np.array([[0.0, np.nan]])}, "NaN or infinite"),
        ({"x": np.array([[0.0, np.inf]])}, "NaN or infinite"),
        ({"x": np.array([[0.0, 1e300]])}, "NaN or infinite"),
        ({"x": np.zeros(5)}, r"x is float64 \[5\]"),
        ({"x": np.zeros((2, 3), np.int64)}, r"x is int64 \[2, 3\]"),
        ({"x": np.array([["a", "b"]])}, "x is <U1"),
        ({"x": np.full((2, 1, 4, 4), 1.5)}, r"must lie in \[0, 1\], found 1.5 to 1.5"),
        ({"images": np.zeros((2, 4, 5, 4), np.uint8)}, "one or three channels"),
        ({"x": np.zeros((2, 3)), "labels": np.zeros(3, np.int64)}, "2 rows need as many"),
        ({"x": np.zeros((2, 3)), "labels": np.array(["a", "b"])}, "whole numbers"),
    ],
)
def test_bad_npz(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(write_npz(tmp_path / "a.npz", **arrays))


def test_ragged_npz_is_not_unpickled(tmp_path: Path) -> None:
    ragged = np.empty(2, object)
    ragged[:] = [[1.0], [1.0, 2.0]]
    with pytest.raises(DataError, match=r"cannot be read as an \.npz archive: Object arrays"):
        load(write_npz(tmp_path / "a.npz", x=ragged))


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 and then nothing"])
def test_unreadable_npz(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read as an \.npz archive"):
        load(f"npz:{tmp_path / 'a.npz'}")


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.98])
def test_truncated_npz(tmp_path: Path, keep: float) -> None:
    write_npz(tmp_path / "a.npz", x=np.zeros((50, 3)))
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(DataError, match=r"cannot be read as an \.npz archive"):
        load(f"npz:{tmp_path / 'a.npz'}")


def test_npz_member_shorter_than_its_header(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((50, 3)))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", (tmp_path / "x.npy").read_bytes()[:-8])
    with pytest.raises(DataError, match=r"cannot be read as an \.npz archive"):
        load(f"npz:{tmp_path / 'a.npz'}")


@pytest.mark.parametrize("shape", [(10**15, 4), (2**62, 8), (10**30, 4)])
def test_npz_with_an_absurd_header(tmp_path: Path, shape: tuple[int, int]) -> None:
    header = repr({"descr": "<f4", "fortran_order": False, "shape": shape}).encode().ljust(117)
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + header + b"\n" + bytes(64)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", member)
    with pytest.raises(DataError, match=r"cannot be read as an \.npz archive: ."):
        load(f"npz:{tmp_path / 'a.npz'}")


@pytest.mark.parametrize(("at", "value"), [(8, 1), (10, 99)], ids=["encrypted", "compression"])
def test_npz_that_zipfile_cannot_unpack(tmp_path: Path, at: int, value: int) -> None:
    """Set in the central directory, which zipfile goes by, and in the member's own header."""
    write_npz(tmp_path / "a.npz", x=np.zeros((2, 3)))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[content.index(b"PK\x01\x02") + at] = value
    content[at - 2] = value
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read as an \.npz archive"):
        load(f"npz:{tmp_path / 'a.npz'}")


@pytest.mark.parametrize("member", ["x", "labels"])
def test_npz_member_that_is_no_array(tmp_path: Path, member: str) -> None:
    write_npz(tmp_path / "a.npz", **({"x": np.zeros((2, 3))} if member != "x" else {}))
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr(member, b"hello")
    with pytest.raises(DataError, match="a member is no array"):
        load(f"npz:{tmp_path / 'a.npz'}")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "is no data source; use digits"),
        ("mnists", "is no data source"),
        ("digits:x", "is no data source"),
        ("idx:", "is no data source"),
        ("idx:/nowhere", "holds no train-images-idx3-ubyte"),
        ("npz:/nowhere.npz", "No such file or directory"),
        ("folder:/nowhere", "is no folder"),
    ],
)
def test_missing_data_is_one_line(refused: Callable[..., str], spec: str, message: str) -> None:
    assert message in refused("train", "--data", spec, "--out", "never-made")


def test_digest_follows_the_values() -> None:
    x = np.zeros((3, 4), np.float32)

    def sha256(values: npt.NDArray[np.float32]) -> str:
        return Dataset(values, None, level=None, name="").sha256

    assert sha256(x) == sha256(x.copy())
    assert len({sha256(x), sha256(x.reshape(4, 3)), sha256(x + np.float32(1e-30))}) == 3


def test_split_is_a_seeded_partition() -> None:
    train, validation = split(101, seed=5)
    assert sorted([*train, *validation]) == list(range(101))
    assert len(validation) == 10
    np.testing.assert_array_equal(split(101, seed=5)[1], validation)
    assert set(split(101, seed=6)[1]) != set(validation)


def test_split_holds_one_row_out_at_least() -> None:
    assert [len(part) for part in split(2, seed=0)] == [1, 1]
    with pytest.raises(DataError, match="1 row is too few"):
        split(1, seed=0)
