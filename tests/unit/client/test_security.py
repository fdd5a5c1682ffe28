"""Where a token may travel, and what TLS settings are taken."""

from pathlib import Path
from traceback import format_exception

import pytest

from vaeserve import AccessDenied, Client, InvalidInput, Tls

LOCAL = ["127.0.0.1:5", "localhost:5", "[::1]:5", "dns:///localhost:5", "unix:/run/x:5"]
REMOTE = ["vae.example:5", "10.0.0.1:5", "dns:///127.0.0.1.example:5", "[2001:db8::1]:5"]


@pytest.mark.parametrize("target", LOCAL)
def test_a_token_may_stay_on_this_machine_in_plaintext(target: str) -> None:
    Client(target, token="secret").close()


@pytest.mark.parametrize("target", REMOTE)
def test_a_token_leaves_it_by_tls_or_by_consent_only(target: str) -> None:
    with pytest.raises(InvalidInput, match="plaintext"):
        Client(target, token="secret")
    with pytest.raises(InvalidInput, match="plaintext"):
        Client(target, token=lambda: "secret")
    Client(target, token="secret", tls=True).close()
    Client(target, token="secret", tls=False).close()


@pytest.mark.parametrize("token", ["", "two words", "line\n", "ümlaut"])
def test_what_no_header_can_hold_is_refused(token: str) -> None:
    with pytest.raises(InvalidInput, match="token"):
        Client("127.0.0.1:5", token=token)
    with Client("127.0.0.1:5", token=lambda: token) as client, pytest.raises(AccessDenied):
        client.models()


def test_a_function_that_fails_fails_the_call() -> None:
    def token() -> str:
        raise RuntimeError("the vault is sealed")

    with (
        Client("127.0.0.1:5", token=token) as client,
        pytest.raises(RuntimeError, match="the vault is sealed"),
    ):
        client.models()


def test_tls_settings_are_checked_and_shown_without_secrets(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="belong together"):
        Tls(cert=b"x")
    with pytest.raises(InvalidInput, match="No such file"):
        Client("127.0.0.1:5", tls=Tls(ca=tmp_path / "ca.pem"))
    assert repr(Tls(cert=b"public", key=b"private")) == "<Tls cert, key>"
    assert repr(Tls()) == "<Tls default>"


@pytest.mark.parametrize("part", ["ca", "cert", "key"])
def test_pem_text_is_not_taken_for_a_path_nor_told(part: str) -> None:
    text = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"
    given = {"ca": b"x", "cert": b"x", "key": b"x"} | {part: text}
    with pytest.raises(InvalidInput, match="give PEM content as bytes") as refused:
        Client("127.0.0.1:5", tls=Tls(**given))
    assert "c2VjcmV0" not in "".join(format_exception(refused.value))
