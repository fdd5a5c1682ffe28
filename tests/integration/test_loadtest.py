"""The load tester against the real server."""

import json
from typing import Any

import pytest
from click.testing import CliRunner

from vaeserve._cli import main
from vaeserve_loadtest.load import RPCS


@pytest.mark.parametrize("loop", [("--concurrency", "2"), ("--rate", "50")])
@pytest.mark.parametrize("rpc", RPCS)
def test_every_request_is_answered(address: str, rpc: str, loop: tuple[str, str]) -> None:
    common = ("--model", "digits", "--rpc", rpc, "--rows", "3", "--duration", "300ms")
    result = CliRunner().invoke(
        main, ["loadtest", address, *common, "--warmup", "100ms", "--json", *loop]
    )
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(result.stdout)["runs"][0]
    assert report["succeeded"] > 0
    assert report["failed"] == report["dropped"] == 0
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["max"]
