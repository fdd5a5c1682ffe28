"""Files in and out: pictures, arrays, and those that cannot be read or written."""

import io
import struct
from pathlib import Path
from zlib import compress, crc32

import numpy as np
import pytest
from PIL import Image

from unit.client.command_line import ran, vaeserve
from unit.client.scripted_model import pictures
from unit.client.scripted_server import Script
from vaeserve import Client

LEVELS = np.rint(pictures(1)[0] * 255).astype(np.uint8)


def test_pictures_come_from_png(script: Script, tmp_path: Path) -> None:
    Image.fromarray(LEVELS).save(tmp_path / "x.png")
    call = (script.address, "--model", "digits", "-o")
    ran("reconstruct", *call, tmp_path / "y.png", tmp_path / "x.png")
    with Client(script.address) as client, Image.open(tmp_path / "y.png") as y:
        expected = client.model("digits").reconstruct(LEVELS, dtype=np.uint8)
        np.testing.assert_array_equal(np.asarray(y), expected[0])
    ran("interpolate", *call, tmp_path / "walk.png", *[tmp_path / "x.png"] * 2, "--steps", 4)
    with Image.open(tmp_path / "walk.png") as walk:
        assert walk.size == (4 * 3 + 3 * 2, 2)
    ran("encode", *call, tmp_path / "q.npz", tmp_path / "x.png")
    ran("interpolate", *call, tmp_path / "walk.npz", *[tmp_path / "q.npz"] * 2)
    with np.load(tmp_path / "walk.npz") as saved:
        assert saved["x_hat"].shape == (1, 8, 2, 3)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (
            Image.new("RGB", (4, 2)),
            "x.png is 4x2, 'digits' takes 3x2: PIL.ImageOps.fit(picture, (3, 2)) makes it fit",
        ),
        (Image.new("RGBA", (3, 2)), "x.png is partly transparent: lay it over a background first"),
        (Image.new("I;16", (3, 2)), "x.png has more than 8 bits"),
    ],
)
def test_a_png_that_does_not_fit(
    script: Script, tmp_path: Path, picture: Image.Image, message: str
) -> None:
    picture.save(tmp_path / "x.png")
    call = (script.address, "--model", "digits", "-o", tmp_path / "y.png")
    result = vaeserve("reconstruct", *call, tmp_path / "x.png")
    assert result.exit_code == 1
    assert message in result.output


def test_a_file_that_is_none(script: Script, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"no picture")
    (tmp_path / "x.npy").write_bytes(b"no array")
    np.savez(tmp_path / "x.npz", a=np.zeros(1), b=np.zeros(1))
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 no archive")
    call = (script.address, "--model", "digits", "-o", tmp_path / "y.npy")
    for name, message in (
        ("x.png", "no picture"),
        ("x.npy", "no .npy"),
        ("x.npz", "holds a, b"),
        ("bad.npz", "no .npy"),
    ):
        result = vaeserve("reconstruct", *call, tmp_path / name)
        assert result.exit_code == 1
        assert message in result.output


def test_a_wrong_suffix_is_refused_before_the_call(script: Script, tmp_path: Path) -> None:
    result = vaeserve("sample", script.address, "--model", "digits", "-o", tmp_path / "x.jpg")
    assert result.exit_code == 2
    assert ".png, .npy, .npz" in result.output
    assert script.requests == []


def png(width: int, height: int, pixels: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    end = chunk(b"IEND", b"")
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", compress(pixels)) + end


@pytest.mark.parametrize("kind", ["empty", "bomb", "crc", "jpeg", "deflate", "method", "encrypted"])
def test_damaged_files_are_one_line(script: Script, tmp_path: Path, kind: str) -> None:
    good, archive, jpeg = png(3, 2, b"\0abc\0def"), io.BytesIO(), io.BytesIO()
    np.savez_compressed(archive, x=pictures(50))
    Image.effect_noise((3, 2), 90).save(jpeg, "JPEG")
    zipped = archive.getvalue()
    data = zipped.find(b"x.npy") + 5 + struct.unpack("<H", zipped[28:30])[0]
    central = zipped.find(b"PK\x01\x02")
    name, content = {
        "empty": ("x.npy", b""),
        "bomb": ("x.png", png(60_000, 60_000, bytes(60_001))),
        "crc": ("x.png", good.replace(b"IDAT", b"IDAU", 1)),
        "jpeg": ("x.jpg", jpeg.getvalue()[:-8]),
        "deflate": ("x.npz", zipped[:data] + b"\xff" * 40 + zipped[data + 40 :]),
        "method": ("x.npz", zipped[: central + 10] + b"\x63\0" + zipped[central + 12 :]),
        "encrypted": ("x.npz", zipped[: central + 8] + b"\x01\0" + zipped[central + 10 :]),
    }[kind]
    (tmp_path / name).write_bytes(content)
    call = (script.address, "--model", "digits", "-o", tmp_path / "y.npy")
    result = vaeserve("reconstruct", *call, tmp_path / name)
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1
    assert "that can be read" in result.output


def test_suffixes_in_capitals(script: Script, tmp_path: Path) -> None:
    Image.fromarray(LEVELS).save(tmp_path / "X.PNG")
    call = (script.address, "--model", "digits", "-o")
    ran("encode", *call, tmp_path / "Q.NPZ", tmp_path / "X.PNG")
    ran("interpolate", *call, tmp_path / "W.PNG", *[tmp_path / "Q.NPZ"] * 2, "--steps", 4)
    ran("decode", *call, tmp_path / "Y.NPY", tmp_path / "Q.NPZ")
    assert np.load(tmp_path / "Y.NPY").shape == (1, 2, 3)
    assert {path.name for path in tmp_path.iterdir()} == {"X.PNG", "Q.NPZ", "W.PNG", "Y.NPY"}
