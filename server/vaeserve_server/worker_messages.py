"""What a supervisor and its workers tell each other, over one connection each.

To the worker, as arguments: a WorkerStart. Later: ALL or CHANGES, each answered in order with
METRICS or, to CHANGES alone, NO_CHANGE. From the worker, once: READY with what it serves, or FAILED
with the reason.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from vaeserve_server.config import ServerConfig

ALL = b"all"
"""Ask for every metric as it is now."""

CHANGES = b"changes"
"""Ask for every metric unless there was no call since they were sent last: that costs nothing."""

# First byte of what a worker sends.
READY = b"R"
FAILED = b"F"
METRICS = b"M"
NO_CHANGE = b"="


@dataclass(frozen=True)
class Served:
    """What a worker serves.

    Attributes:
        versions: version by model.
        refused: reason by model whose highest version could not be loaded.
    """

    versions: dict[str, int]
    refused: dict[str, str]

    def encode(self) -> bytes:
        """As bytes, without the kind."""
        return json.dumps(dataclasses.asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> "Served":
        """The opposite of `encode`."""
        return cls(**json.loads(data))


@dataclass(frozen=True)
class WorkerStart:
    """How a worker is started.

    Attributes:
        number: its place among the workers, from 0; its successors have the same.
        config: the supervisor's, with the port it holds.
        like: what the other workers serve, which this one must serve too; None for the first ones.
    """

    number: int
    config: ServerConfig
    like: Served | None

    def encode(self) -> str:
        """As a command line argument."""
        return json.dumps(dataclasses.asdict(self), default=str)

    @classmethod
    def decode(cls, text: str) -> "WorkerStart":
        """The opposite of `encode`."""
        fields = json.loads(text)
        config = fields["config"]
        paths = ("repository", "engine_cache", "tls_cert", "tls_key", "tls_client_ca", "token_file")
        for name in paths:
            if config[name] is not None:
                config[name] = Path(config[name])
        config["buckets"] = tuple(config["buckets"])
        like = fields["like"]
        return cls(
            fields["number"], ServerConfig(**config), None if like is None else Served(**like)
        )
