"""Bearer tokens: which callers may call, by a file that is read again when it changes."""

import hmac
import logging
import time
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path

from vaeserve_server.errors import StartupError, Unauthenticated

Metadata = Iterable[tuple[str, str | bytes]]
Guard = Callable[[Metadata], None]
"""Raises Unauthenticated for the metadata of a call that may not be made."""

_HEADER = "authorization"
_SCHEME = "bearer"

# How long a token that was taken out of the file may still be used, at most.
_LOOK_AGAIN_S = 1.0

_log = logging.getLogger(__name__)


class Tokens:
    """The tokens of a file, one a line; empty lines and those that begin with `#` are none."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the file.

        Args:
            path: the file.
            clock: seconds, for tests.

        Raises:
            StartupError: it cannot be read, or holds no token.
        """
        self._path = path
        self._clock = clock
        self._look_at = clock() + _LOOK_AGAIN_S
        try:
            self._seen, self._digests = _read(path)
        except (OSError, UnicodeDecodeError) as error:
            raise StartupError(f"--token-file {path}: {error}") from error
        if not self._digests:
            raise StartupError(f"--token-file {path} holds no token")

    def check(self, metadata: Metadata) -> None:
        """Let a caller pass who sends `authorization: Bearer TOKEN` with a token of the file.

        Raises:
            Unauthenticated: no such header (TOKEN_MISSING), or another token (TOKEN_INVALID).
        """
        self._look_again()
        token = _token_of(metadata)
        if token is None:
            raise Unauthenticated(
                "this server asks for a token: send the metadatum 'authorization: Bearer TOKEN'",
                reason="TOKEN_MISSING",
            )
        digest = sha256(token).digest()
        # All are compared, each in constant time: how long it takes tells nothing of any of them.
        if not sum(hmac.compare_digest(digest, known) for known in self._digests):
            raise Unauthenticated("the token is not one of this server's", reason="TOKEN_INVALID")

    def _look_again(self) -> None:
        """Read the file again if it is another one by now; what cannot be read changes nothing."""
        now = self._clock()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_AGAIN_S
        try:
            if _state(self._path) == self._seen:
                return
            self._seen, self._digests = _read(self._path)
            _log.info("tokens read again", extra={"tokens": len(self._digests)})
        except (OSError, UnicodeDecodeError):
            _log.exception("the token file cannot be read; its former tokens stay")


def _read(path: Path) -> tuple[tuple[int, ...], tuple[bytes, ...]]:
    # The state first: what is written meanwhile is then seen next time.
    state = _state(path)
    lines = (line.strip() for line in path.read_text().splitlines())
    return state, tuple(
        sha256(line.encode()).digest() for line in lines if line and not line.startswith("#")
    )


def _state(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


def _token_of(metadata: Metadata) -> bytes | None:
    for key, value in metadata:
        if key == _HEADER and isinstance(value, str):
            scheme, _, token = value.partition(" ")
            if scheme.lower() == _SCHEME:
                return token.strip().encode()
    return None
