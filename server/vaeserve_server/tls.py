"""The server's certificate, read again when its files change, so that renewals need no restart."""

import logging
import threading
from pathlib import Path

import grpc

from vaeserve_server.config import ServerConfig
from vaeserve_server.errors import StartupError

_log = logging.getLogger(__name__)


def server_credentials(config: ServerConfig) -> grpc.ServerCredentials | None:
    """What the port asks for and shows; None for plaintext.

    Raises:
        StartupError: a file cannot be read.
    """
    if config.tls_cert is None or config.tls_key is None:
        return None
    files = _Files(config.tls_cert, config.tls_key, config.tls_client_ca)
    try:
        first = files.read()
    except OSError as error:
        raise StartupError(f"cannot read the TLS files: {error}") from error
    return grpc.dynamic_ssl_server_credentials(
        first,
        files.changed,  # type: ignore[arg-type]  # the stubs know of no None
        require_client_authentication=config.tls_client_ca is not None,
    )


class _Files:
    """Certificate, key, and the authority of the callers' certificates, in PEM."""

    def __init__(self, cert: Path, key: Path, client_ca: Path | None) -> None:
        self._paths = [cert, key] if client_ca is None else [cert, key, client_ca]
        self._seen: list[bytes] = []
        self._reading = threading.Lock()

    def read(self) -> grpc.ServerCertificateConfiguration:
        """Read them all.

        Raises:
            OSError: one cannot be read.
        """
        self._seen = [path.read_bytes() for path in self._paths]
        cert, key, *client_ca = self._seen
        return grpc.ssl_server_certificate_configuration(
            [(key, cert)], root_certificates=client_ca[0] if client_ca else None
        )

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC before each handshake; None to go on with what it has."""
        with self._reading:
            before = self._seen
            try:
                fresh = self.read()
            except OSError:
                _log.exception("the TLS files cannot be read; the former ones stay")
                return None
            return None if self._seen == before else fresh
