"""JSON logs on standard output, one object a line."""

import logging
import sys

from pythonjsonlogger.json import JsonFormatter


def configure() -> None:
    """Send every log record of the process to standard output as JSON."""
    handler = logging.StreamHandler(sys.stdout)
    fields = "%(asctime)s %(levelname)s %(name)s %(message)s"
    renames = {"asctime": "time", "levelname": "level", "name": "logger"}
    handler.setFormatter(JsonFormatter(fields, rename_fields=renames))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
