"""A server for those who load it."""

from collections.abc import Iterator

import pytest

from unit.client.scripted_server import Script, serving


@pytest.fixture
def script() -> Iterator[Script]:
    with serving(Script()) as running:
        yield running
