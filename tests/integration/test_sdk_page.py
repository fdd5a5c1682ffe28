"""docs/sdk.md: its examples run, in order, against a real server."""

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "sdk.md"


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
