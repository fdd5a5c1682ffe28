"""Every source, and every way in which its data can be bad: one clear line, never a traceback."""

import gzip
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from vaeserve_export.data.dataset import Dataset, load, split
from vaeserve_export.errors import DataError

SHARED = Path(__file__).parents[4] / "shared" / "data"
LEVELS = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5) * 4


def idx(array: npt.NDArray[np.uint8]) -> bytes:
    """An array of bytes as an IDX file."""
    dims = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + dims + array.tobytes()


def write_npz(path: Path, **arrays: Any) -> str:
    np.savez(path, **arrays)
    return f"npz:{path}"


def save_picture(path: Path, size: tuple[int, int] = (5, 4), mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, 51 if mode == "L" else (51, 102, 255)).save(path)


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


def test_folder_of_grey_pictures_in_classes(tmp_path: Path) -> None:
    for path in ("cat/1.png", "cat/2.PNG", "dog/1.jpg", "dog/deep/2.jpeg"):
        save_picture(tmp_path / path)
    (tmp_path / "notes.txt").write_text("not a picture")
    data = load(f"folder:{tmp_path}")
    assert data.x.shape == (4, 1, 4, 5)
    np.testing.assert_array_equal(data.x, np.float32(51) / np.float32(255))
    assert data.labels is not None
    assert data.labels.tolist() == [0, 0, 1, 1]


def test_folder_of_colour_pictures(tmp_path: Path) -> None:
    save_picture(tmp_path / "1.png", mode="RGB")
    save_picture(tmp_path / "2.png", mode="RGB")
    data = load(f"folder:{tmp_path}")
    assert data.x.shape == (2, 3, 4, 5)
    np.testing.assert_allclose(data.x[0, :, 0, 0], [0.2, 0.4, 1.0], rtol=1e-6)
    assert data.labels is None


def test_folder_with_an_odd_size(tmp_path: Path) -> None:
    save_picture(tmp_path / "a.png")
    save_picture(tmp_path / "b.png", size=(6, 4))
    with pytest.raises(
        DataError, match=r"b\.png: is 4x6 grey but a\.png is 4x5 grey; .*,resize=4x5$"
    ):
        load(f"folder:{tmp_path}")


def test_folder_with_an_odd_mode(tmp_path: Path) -> None:
    save_picture(tmp_path / "a.png")
    save_picture(tmp_path / "b.png", mode="RGB")
    with pytest.raises(DataError, match=r"b\.png: is 4x5 RGB but a\.png is 4x5 grey; .*,grey$"):
        load(f"folder:{tmp_path}")


def sixteen_bit_colours() -> bytes:
    """A PNG of one RGB pixel; Pillow writes none of this depth."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0))
    pixel = chunk(b"IDAT", zlib.compress(b"\0" + b"\x12\x34" * 3))
    return b"\x89PNG\r\n\x1a\n" + header + pixel + chunk(b"IEND", b"")


def test_sixteen_bit_pictures_are_refused(tmp_path: Path) -> None:
    for name in ("grey", "colour"):
        (tmp_path / name).mkdir()
    Image.new("I;16", (4, 4), 1000).save(tmp_path / "grey" / "a.png")
    (tmp_path / "colour" / "a.png").write_bytes(sixteen_bit_colours())
    for name in ("grey", "colour"):
        with pytest.raises(DataError, match="more than 8 bits a channel"):
            load(f"folder:{tmp_path / name}")


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
def test_pictures_with_alpha_are_refused(tmp_path: Path, mode: str) -> None:
    picture = Image.new(mode, (4, 4))
    if mode == "P":
        picture.info["transparency"] = 0
    picture.save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: has an alpha channel; flatten it"):
        load(f"folder:{tmp_path}")


def test_pictures_are_turned_as_their_exif_says(tmp_path: Path) -> None:
    """Six is a quarter turn clockwise: the left column, here white, becomes the top row."""
    picture = Image.new("L", (16, 8))
    picture.paste(255, (0, 0, 8, 8))
    exif = picture.getexif()
    exif[0x112] = 6
    picture.save(tmp_path / "a.jpg", exif=exif)
    x = load(f"folder:{tmp_path}").x
    assert x.shape == (1, 1, 16, 8)
    assert x[0, 0, :8].min() > 0.9
    assert x[0, 0, 8:].max() < 0.1


def test_only_png_and_jpeg_are_decoded(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "a.png", format="GIF")
    with pytest.raises(DataError, match=r"a\.png: cannot be read as a picture"):
        load(f"folder:{tmp_path}")


@pytest.mark.parametrize("keep", [0, 20, 50])
def test_truncated_picture(tmp_path: Path, keep: int) -> None:
    save_picture(tmp_path / "a.png", size=(40, 40))
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:keep])
    with pytest.raises(DataError, match=r"a\.png: cannot be read as a picture"):
        load(f"folder:{tmp_path}")


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


@pytest.mark.parametrize(
    ("spec", "shape", "labelled"),
    [
        ("idx:mnist", (60000, 1, 28, 28), True),
        ("idx:fashion-mnist", (60000, 1, 28, 28), True),
        ("npz:binarized-mnist/binarized-mnist.npz", (50000, 1, 28, 28), False),
        ("npz:smiles/smiles-train.npz", (10522, 1, 64, 64), True),
    ],
)
def test_published_files(spec: str, shape: tuple[int, ...], labelled: bool) -> None:
    source, _, place = spec.partition(":")
    if not (SHARED / place).exists():
        pytest.skip(f"{SHARED / place} is not on this machine")
    data = load(f"{source}:{SHARED / place}")
    assert data.x.shape == shape
    assert (data.x.min(), data.x.max()) == (0, 1)
    assert (data.labels is not None) == labelled
