"""JSON logs on standard output, one object a line."""

import logging
import sys
from collections.abc import Iterable, Mapping

from pythonjsonlogger.json import JsonFormatter

from vaeserve_server.config import ServerConfig

_log = logging.getLogger(__name__)


def configure(worker: int | None = None) -> None:
    """Send every log record of the process to standard output as JSON.

    Args:
        worker: number of the worker that this process is, in every record; None if it serves alone.
    """
    handler = logging.StreamHandler(sys.stdout)
    fields = "%(asctime)s %(levelname)s %(name)s %(message)s"
    renames = {"asctime": "time", "levelname": "level", "name": "logger"}
    fixed = {} if worker is None else {"worker": worker}
    handler.setFormatter(JsonFormatter(fields, rename_fields=renames, static_fields=fixed))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def ready(config: ServerConfig, models: Iterable[str], refused: Mapping[str, str]) -> None:
    """Say that the service is ready, and for whom it is not.

    Args:
        config: with the ports that were got.
        models: those that are served.
        refused: reasons by model whose highest version could not be loaded.
    """
    served = sorted(models)
    _log.info(
        "not ready: some models were refused" if refused.keys() - set(served) else "ready",
        extra={
            "address": config.address,
            "metrics_address": config.metrics_address,
            "models": served,
            "refused": dict(refused),
        },
    )
