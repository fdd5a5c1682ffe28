"""Folders of pictures of any size."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vaeserve_export.data.dataset import load
from vaeserve_export.errors import DataError


def save_picture(path: Path, size: tuple[int, int] = (5, 4), mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, 51 if mode == "L" else (51, 102, 255)).save(path)


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


def ramp(path: Path, size: tuple[int, int], mode: str = "L") -> None:
    """Black on the left, white on the right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.linspace(0, 255, size[0]).astype(np.uint8)
    Image.fromarray(np.tile(levels, (size[1], 1))).convert(mode).save(path)


def test_any_size_is_cropped_to_the_middle_and_resized(tmp_path: Path) -> None:
    ramp(tmp_path / "a.png", (100, 50))
    ramp(tmp_path / "b.png", (25, 25))
    x = load(f"folder:{tmp_path},resize=8x8").x
    assert x.shape == (2, 1, 8, 8)
    # Of the wide one the middle half is left, so it runs from a quarter to three quarters.
    eighths = (np.arange(8) + 0.5) / 8
    np.testing.assert_allclose(x[0, 0, 4], 0.25 + 0.5 * eighths, atol=0.02)
    np.testing.assert_allclose(x[1, 0, 4], eighths, atol=0.03)


def test_size_is_height_by_width(tmp_path: Path) -> None:
    ramp(tmp_path / "a.png", (20, 20))
    assert load(f"folder:{tmp_path},resize=4x6").row_shape == (1, 4, 6)


def test_resizing_does_not_alias(tmp_path: Path) -> None:
    """A checkerboard of single pixels becomes grey; without a low-pass it stays black or white."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "a.png")
    x = load(f"folder:{tmp_path},resize=8x8").x
    np.testing.assert_allclose(x, 0.5, atol=0.02)


def test_grey_joins_colours(tmp_path: Path) -> None:
    save_picture(tmp_path / "a.png")
    save_picture(tmp_path / "b.png", mode="RGB")
    x = load(f"folder:{tmp_path},grey").x
    assert x.shape == (2, 1, 4, 5)
    luma = round(0.299 * 51 + 0.587 * 102 + 0.114 * 255)
    np.testing.assert_allclose(x[1], luma / 255, atol=1.5 / 255)


def test_options_come_in_any_order_behind_a_path_with_commas(tmp_path: Path) -> None:
    save_picture(tmp_path / "cats,dogs" / "a.png", mode="RGB")
    data = load(f"folder:{tmp_path / 'cats,dogs'},grey,resize=2x2")
    assert data.row_shape == (1, 2, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (",resize=8", "resize takes height x width"),
        (",resize=0x8", "resize takes height x width"),
        (",resize=8x8x3", "resize takes height x width"),
        (",size=8x8", "folder has no option size; it has resize, grey"),
        (",label=y", "folder has no option label"),
    ],
)
def test_bad_options(tmp_path: Path, options: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(f"folder:{tmp_path}{options}")


def test_parts_in_sub_folders(tmp_path: Path) -> None:
    """Labels follow the classes to train on: dog is 1, though there is no cat to test on."""
    for path in ("train/cat/1.png", "train/dog/1.png", "val/cat/1.png", "test/dog/1.png"):
        save_picture(tmp_path / path)
    data = load(f"folder:{tmp_path}")
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1]
    assert data.validation is not None
    assert len(data.validation.x) == 1
    test = load(f"folder:{tmp_path}", part="test")
    assert test.labels is not None
    assert test.labels.tolist() == [1]


@pytest.mark.parametrize("name", ["valid", "val", "validation"])
def test_names_of_the_validation_part(tmp_path: Path, name: str) -> None:
    for path in ("train/cat/1.png", "train/dog/1.png", "test/dog/1.png", f"{name}/cat/1.png"):
        save_picture(tmp_path / path)
    data = load(f"folder:{tmp_path}")
    assert len(data.x) == 2
    assert data.validation is not None
    assert len(data.validation.x) == 1


def test_what_is_hidden_changes_no_part_and_is_no_picture(tmp_path: Path) -> None:
    """Editors and file managers leave folders of thumbnails, and macOS a ._1.png beside 1.png."""
    for path in ("train/cat/1.png", "train/dog/1.png", "test/dog/1.png"):
        save_picture(tmp_path / path)
    before = load(f"folder:{tmp_path}")
    (tmp_path / ".cache").mkdir()
    save_picture(tmp_path / "train" / ".thumbs" / "1.png", size=(2, 2))
    (tmp_path / "train" / "cat" / "._1.png").write_bytes(b"\0\5\x16\7")
    after = load(f"folder:{tmp_path}")
    assert after.sha256 == before.sha256
    assert after.labels is not None
    assert after.labels.tolist() == [0, 1]
    assert len(load(f"folder:{tmp_path}", part="test").x) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tests", "tests lies beside test, train, which are parts; move it"),
        ("valid", "val and valid are both the valid part; keep one"),
    ],
)
def test_sub_folders_that_may_be_parts_or_not(tmp_path: Path, name: str, message: str) -> None:
    for part in ("train", "test", *(["val"] if name == "valid" else []), name):
        save_picture(tmp_path / part / "cat" / "1.png")
    for part in ("train", "test"):
        with pytest.raises(DataError, match=message):
            load(f"folder:{tmp_path}", part=part)  # type: ignore[arg-type]


def test_unknown_class_to_test_on(tmp_path: Path) -> None:
    for path in ("train/cat/1.png", "test/cow/1.png"):
        save_picture(tmp_path / path)
    with pytest.raises(DataError, match="no class to train on is named 'cow'"):
        load(f"folder:{tmp_path}", part="test")


def test_a_class_may_be_named_train(tmp_path: Path) -> None:
    for path in ("car/1.png", "train/1.png"):
        save_picture(tmp_path / path)
    data = load(f"folder:{tmp_path}")
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1]
    with pytest.raises(DataError, match="has no test part"):
        load(f"folder:{tmp_path}", part="test")


def test_order_and_digest_are_those_of_the_names(tmp_path: Path) -> None:
    """Files come as the file system lists them; rows must not."""
    names = [f"{name}.png" for name in ("b", "a", "B", "ab", "a-b", "10", "9")]
    for folder, order in (("one", names), ("two", names[::-1])):
        for name in order:
            ramp(tmp_path / folder / "x" / name, (5 + names.index(name), 4))
    one, two = (load(f"folder:{tmp_path / folder},resize=4x4") for folder in ("one", "two"))
    np.testing.assert_array_equal(one.x, two.x)
    assert one.sha256 == two.sha256
