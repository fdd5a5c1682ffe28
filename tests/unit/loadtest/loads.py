"""Short loads of a scripted server."""

from typing import Any

from unit.client.scripted_server import Script
from vaeserve_loadtest import Load, Part


def load(script: Script, **changes: Any) -> Load:
    settings: dict[str, Any] = {"duration_s": 0.4, "warmup_s": 0.1} | changes
    part = Part(settings.pop("rpc", "encode"), settings.pop("rows", 1))
    return Load(address=script.address, model="digits", **({"mix": (part,)} | settings))
