"""How a client proves the server and itself: TLS certificates and a bearer token."""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import grpc

from vaeserve._errors import AccessDenied, InvalidInput

Token = str | Callable[[], str]
Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Certificates of a connection; each a file in PEM, by its path, or its content as bytes.

    Attributes:
        ca: authorities that the server's certificate may come from; None for those of gRPC.
        cert: this client's certificate chain, for a server that asks for one (mTLS).
        key: private key of `cert`.
    """

    ca: str | Path | bytes | None = None
    cert: str | Path | bytes | None = None
    key: str | Path | bytes | None = None

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise InvalidInput("cert and key belong together")

    def __repr__(self) -> str:
        """Without the key."""
        given = [name for name in ("ca", "cert", "key") if getattr(self, name) is not None]
        return f"<Tls {', '.join(given) or 'default'}>"


@dataclass(frozen=True, slots=True, repr=False)
class Security:
    """What a client's channel and calls carry.

    Attributes:
        credentials: of the channel; None for plaintext.
        token: sent with each call; None for none.
    """

    credentials: grpc.ChannelCredentials | None = None
    token: Token | None = None

    def metadata(self) -> Metadata:
        """What goes with a call.

        Raises:
            AccessDenied: the caller's own function gave no token.
        """
        if self.token is None:
            return ()
        token = self.token if isinstance(self.token, str) else self.token()
        if not _sendable(token):
            raise AccessDenied(
                "the token is empty or holds what no header can", code="UNAUTHENTICATED"
            )
        return (("authorization", f"Bearer {token}"),)


def security(target: str, tls: bool | Tls | None, token: Token | None) -> Security:
    """Read the certificates and check that the token stays secret.

    Args:
        target: where the server is.
        tls: as for `Client`.
        token: as for `Client`.

    Raises:
        InvalidInput: `tls` is none of these, a file cannot be read, the token cannot be sent, or
            would be sent in plaintext to another machine.
    """
    if not isinstance(tls, bool | Tls | None):
        raise InvalidInput("tls is True, False or vaeserve.Tls(ca=...); None for the usual")
    if isinstance(token, str) and not _sendable(token):
        raise InvalidInput("the token is empty or holds what no header can")
    if token is not None and tls is None and not _is_local(target):
        raise InvalidInput(
            f"the token would travel to {target} in plaintext: pass tls=True or vaeserve.Tls(...), "
            "or tls=False where the network protects it"
        )
    if tls is None or tls is False:
        return Security(None, token)
    files = Tls() if tls is True else tls
    credentials = grpc.ssl_channel_credentials(
        root_certificates=_pem(files.ca),
        private_key=_pem(files.key),
        certificate_chain=_pem(files.cert),
    )
    return Security(credentials, token)


def _pem(source: str | Path | bytes | None) -> bytes | None:
    if source is None or isinstance(source, bytes):
        return source
    if "-----BEGIN" in str(source):  # not told, for it may be a private key
        raise InvalidInput("give PEM content as bytes; text is the path of a file")
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise InvalidInput(f"cannot read {str(source)!r}: {error.strerror}") from error


def _sendable(token: object) -> bool:
    return isinstance(token, str) and bool(token) and all("!" <= sign <= "~" for sign in token)


def _is_local(target: str) -> bool:
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    address = target.rpartition("/")[2]
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
