"""Certificates for tests, made by openssl: an authority, and what it signs."""

import subprocess
from pathlib import Path


class Authority:
    """A certificate authority.

    Attributes:
        cert: its own certificate, PEM.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self.cert = folder / f"{name}.pem"
        key = folder / f"{name}.key"
        _openssl(
            "req", "-x509", *_NEW_KEY, "-keyout", key, "-out", self.cert, "-subj", f"/CN={name}"
        )

    def issue(self, name: str) -> tuple[Path, Path]:
        """A certificate for this machine, and its key."""
        cert, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        _openssl(
            *("req", "-x509", *_NEW_KEY, "-keyout", key, "-out", cert, "-subj", f"/CN={name}"),
            *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
            *("-CA", self.cert, "-CAkey", self._folder / f"{self._name}.key"),
        )
        return cert, key


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
