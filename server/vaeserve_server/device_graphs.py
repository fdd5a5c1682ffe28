"""Sessions of the small graphs that run on a device beside a model's own.

`server/generate_graphs.py` writes the graphs.
"""

from functools import cached_property
from importlib import resources

import onnxruntime as ort

from vaeserve_server.config import Tuning
from vaeserve_server.devices import Device
from vaeserve_server.sessions import create_session


class DeviceGraphs:
    """Sessions of the small graphs on one device, created when first needed."""

    def __init__(self, device: Device) -> None:
        """Remember the device."""
        self._device = device

    @cached_property
    def levels(self) -> ort.InferenceSession:
        """uint8 levels -> model values."""
        return self._session("levels.onnx")

    @cached_property
    def pictures(self) -> ort.InferenceSession:
        """Decoded mean -> uint8 levels, and whether it is finite."""
        return self._session("pictures.onnx")

    @cached_property
    def latents(self) -> ort.InferenceSession:
        """Posteriors, noise, weights and moves -> latents."""
        return self._session("latents.onnx")

    def _session(self, name: str) -> ort.InferenceSession:
        model = resources.files("vaeserve_server").joinpath("graphs", name).read_bytes()
        # Their kernels take microseconds: nothing is gained by recording them.
        return create_session(model, name, self._device, 1, Tuning())
