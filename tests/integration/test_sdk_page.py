"""docs/sdk.md and the README: their examples run, in order, and print what is shown."""

import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from support.servers import running_app
from vaeserve import Client
from vaeserve._cli import main

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


README = ROOT / "README.md"


def form(text: str) -> list[str]:
    """Lines without what may differ from run to run: numbers, units of size, widths of columns."""
    text = re.sub(r"-?\d+(\.\d+)?(e[+-]\d+)?", "0", text)
    text = re.sub(r"0 [kMG]?B\b", "0 MB", text)
    return [re.sub(" +", " ", line.rstrip()) for line in text.splitlines()]


def test_the_example_of_the_readme_prints_what_it_shows(
    address: str, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    ((block, shown),) = re.findall(
        r"```python\n((?s:.*?))```\n\n((?:    .*\n)+)", README.read_text()
    )
    smile = client.model("digits").info.attributes[0].name
    for theirs, ours in {"localhost:50051": address, "mnist": "digits", "smile": smile}.items():
        block = block.replace(theirs, ours)
    names: dict[str, Any] = {"x": np.random.default_rng(0).random((3, 1, 8, 8), np.float32)}
    exec(block, names)  # noqa: S102
    assert names["pictures"].shape == (100, 1, 8, 8)
    assert names["strip"].shape == (8, 1, 8, 8)
    assert names["smiling"].shape == names["x_hat"].shape == names["x"].shape
    assert form(capsys.readouterr().out) == form(textwrap.dedent(shown))


def test_the_commands_of_the_readme_print_what_it_shows(
    repository: Path, own_repository: Path
) -> None:
    examples = re.findall(
        r"^    \$ vaeserve (.*)\n((?:    (?!\$ ).*\n)+)", README.read_text(), re.M
    )
    assert [command.split()[0] for command, _ in examples] == ["evaluate", "models", "loadtest"]
    with running_app(own_repository) as app:
        ours = {
            "runs/mnist": str(repository.parent / "runs" / "digits"),
            "mnist": "digits",
            "localhost:50051": f"127.0.0.1:{app.port}",
            "localhost:9464": f"127.0.0.1:{app.metrics_port}",
        }
        shorter = {"evaluate": ["--rows", "50"], "loadtest": ["--duration", "1s", "--warmup", "0s"]}
        for command, shown in examples:
            arguments = re.sub("|".join(ours), lambda found: ours[found[0]], command).split()
            result = CliRunner().invoke(main, [*arguments, *shorter.get(arguments[0], [])])
            assert result.exit_code == 0, result.output
            printed = result.stdout
            for theirs in ("localhost:50051", "mnist"):
                printed = printed.replace(ours[theirs], theirs)
            # `digits` has no test part; how well the machine kept up is no matter of form.
            printed = printed.replace(", validation,", ", test,")
            lines = [line for line in form(printed) if not line.startswith("warning ")]
            expected = form(textwrap.dedent(shown))
            if expected[-1] == "...":
                expected, lines = expected[:-1], lines[: len(expected) - 1]
            assert lines == expected, command
