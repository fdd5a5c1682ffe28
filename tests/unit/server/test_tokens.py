"""The token file is read again when it changes, and only then."""

from pathlib import Path

import pytest

from vaeserve_server.errors import StartupError, Unauthenticated
from vaeserve_server.tokens import Tokens


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "tokens").write_text("old\n")
    return tmp_path / "tokens"


def passes(tokens: Tokens, token: str) -> bool:
    try:
        tokens.check((("user-agent", "x"), ("authorization", f"Bearer {token}")))
    except Unauthenticated:
        return False
    return True


def replace(path: Path, text: str) -> None:
    """As an orchestrator does: at once, by another file."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.rename(path)


def test_a_change_is_seen_within_a_second(path: Path, clock: Clock) -> None:
    tokens = Tokens(path, clock)
    replace(path, "new\nnewer")
    clock.now = 0.9
    assert passes(tokens, "old")
    clock.now = 1.0
    assert not passes(tokens, "old")
    assert passes(tokens, "new")
    assert passes(tokens, "newer")


def test_what_cannot_be_read_changes_nothing(path: Path, clock: Clock) -> None:
    tokens = Tokens(path, clock)
    path.unlink()
    clock.now = 5
    assert passes(tokens, "old")
    path.write_bytes(b"\xff\xfe")
    clock.now = 10
    assert passes(tokens, "old")


def test_an_emptied_file_lets_nobody_pass(path: Path, clock: Clock) -> None:
    tokens = Tokens(path, clock)
    replace(path, "# revoked\n")
    clock.now = 2
    assert not passes(tokens, "old")
    assert not passes(tokens, "# revoked")


def test_a_file_without_a_token_does_not_start(path: Path) -> None:
    path.write_text("\n#old\n")
    with pytest.raises(StartupError, match="holds no token"):
        Tokens(path)
    path.unlink()
    with pytest.raises(StartupError, match="No such file"):
        Tokens(path)
