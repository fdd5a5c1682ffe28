"""The whole path in one command, as `make demo` runs it."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

PICTURES = (
    "training_curves",
    "reconstructions",
    "prior_samples",
    "interpolation",
    "latent_map",
)


# Every step of it, but a tenth as long: neither the model nor the latencies are judged.
SHORT = (
    "from vaeserve_demo import cli; from vaeserve._cli import main;"
    "cli._TRAINING = (*cli._TRAINING, '--epochs', '50');"
    "cli._LOAD_DURATION, cli._LOAD_WARMUP = '500ms', '100ms'; main()"
)


@pytest.mark.timeout(400)
def test_the_demo_leaves_its_pictures_and_the_latency_table(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    command = [sys.executable, "-c", SHORT, "demo", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in PICTURES:
        with Image.open(out / f"{name}.png") as picture:
            assert min(picture.size) > 300
            assert len(picture.convert("L").getcolors() or ()) > 50, "an empty picture"
    table = (out / "latency.txt").read_text()
    assert table in done.stdout
    header, *lines = table.splitlines()
    assert header.split()[:2] == ["rpc", "load"]
    loads = [" ".join(line.split()[:3]) for line in lines]
    assert loads == [
        "encode 1 caller",
        *(f"{rpc} 16 callers" for rpc in ("encode", "sample", "decode")),
        "encode 300 a",
    ]
    assert all(line.split()[-1] == "0" for line in lines), "requests failed"
    assert "10 alone are the first 10, bit for bit" in done.stdout


def test_the_demo_leaves_other_peoples_folders_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    command = [sys.executable, "-m", "vaeserve", "demo", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "is not empty" in done.stderr
    assert (tmp_path / "precious").exists()
