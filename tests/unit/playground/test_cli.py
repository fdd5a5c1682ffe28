"""What keeps the page from being opened is told in one line, before Gradio is loaded."""

import socket
import sys
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from unit.client.scripted_server import Script, serving
from vaeserve._cli import main


@pytest.fixture
def script() -> Iterator[Script]:
    with serving(Script()) as running:
        yield running


def playground(*arguments: object) -> Result:
    result = CliRunner().invoke(main, ["playground", *map(str, arguments), "--no-browser"])
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    return result


def test_a_port_that_is_taken(script: Script) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = playground(script.address, "--port", port)
    assert f"cannot listen on 127.0.0.1:{port}, Address already in use" in result.output


def test_an_address_of_another_machine(script: Script) -> None:
    output = playground(script.address, "--host", "192.0.2.1").output
    assert "--host takes an own IPv4 address" in output
    assert "--host takes an own IPv4 address" in playground(script.address, "--host", "::1").output


def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert "no server answers" in playground(f"127.0.0.1:{port}").output


def test_a_missing_requirement_names_the_extra(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "vaeserve_playground.page", raising=False)
    result = playground(script.address, "--port", 0)
    assert "vaeserve playground needs the [playground] extra" in result.output
