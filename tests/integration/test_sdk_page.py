"""docs/sdk.md and the README: their examples run, in order, against a real server."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vaeserve import Client

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "sdk.md"


def test_every_example_runs(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 7
    names: dict[str, Any] = {}
    for block in blocks:
        text = block.replace("localhost:50051", address).replace('"mnist"', '"digits"')
        exec(text, names)  # noqa: S102
    shown = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"<Latency .* ms: queue .*, run .*, network .*>", shown[0])
    assert len(shown) == 3


def test_the_example_of_the_readme_runs(address: str, client: Client) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    smile = client.model("digits").info.attributes[0].name
    for shown, ours in {"localhost:50051": address, "mnist": "digits", "smile": smile}.items():
        block = block.replace(shown, ours)
    names: dict[str, Any] = {"x": np.random.default_rng(0).random((3, 1, 8, 8), np.float32)}
    exec(block, names)  # noqa: S102
    assert names["pictures"].shape == (100, 1, 8, 8)
    assert names["strip"].shape == (8, 1, 8, 8)
    assert names["smiling"].shape == names["x_hat"].shape == names["x"].shape
